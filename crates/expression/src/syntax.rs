//! From source text to the parser's tree, with everything checked that could hurt: length and nesting before the
//! parser sees it, because parser and lowering recurse.

use starlark_syntax::codemap::CodeMap;
use starlark_syntax::lexer::{Lexer, Token};
use starlark_syntax::syntax::module::AstModuleFields as _;
use starlark_syntax::syntax::{AstModule, Dialect, DialectTypes, ast};

use crate::error::SyntaxError;
use crate::reference::Positions;

/// How long the text of an expression or program may be, in bytes.
pub const SOURCE_LIMIT: usize = 64 * 1024;

/// How deep a source text may nest: a bracket, block or `lambda` weighs [`BRACKET`]; an operator, call, key, `not`,
/// `elif` or ternary inside one expression weighs one. Measured: parsing and lowering what is just allowed takes
/// less than 450 KiB of stack in a debug build.
pub(crate) const NESTING_LIMIT: usize = 256;
const BRACKET: usize = 4;

const DIALECT: Dialect = Dialect {
    enable_def: true,
    enable_lambda: true,
    enable_load: false,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: false,
    enable_types: DialectTypes::Disable,
    enable_load_reexport: false,
    enable_top_level_stmt: true,
    enable_f_strings: true,
    _non_exhaustive: (),
};

/// Which of the two ways to read a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One expression, line breaks allowed anywhere.
    Expression,
    /// Statements.
    Program,
}

/// A source text and where its parts are in the text that was given to the parser.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As written.
    pub(crate) text: String,
    /// Bytes the parser's text has in front of the first line.
    wrap: usize,
    /// Bytes of indentation taken off every line.
    indent: usize,
}

impl Source {
    fn new(text: &str, shape: Shape) -> Self {
        let indent = if shape == Shape::Program { common_indent(text) } else { 0 };
        Self { text: text.to_owned(), wrap: usize::from(shape == Shape::Expression), indent }
    }

    fn parsed(&self) -> String {
        if self.wrap > 0 {
            return format!("({}\n)", self.text);
        }
        let mut parsed = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            parsed.push_str(line.get(cut(line, self.indent)..).unwrap_or(line));
        }
        parsed
    }

    /// Line and column (in characters), both from 1, of an offset into the text as written.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        Positions::new(&self.text).at(offset.min(self.text.len()))
    }

    /// The line an offset is in, shortened around it.
    pub(crate) fn quote(&self, offset: usize) -> String {
        const ROOM: usize = 100;
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let at = before.get(start..).unwrap_or_default().chars().count();
        let skip = at.saturating_sub(ROOM / 2);
        let skip = if line.chars().count() <= ROOM { 0 } else { skip };
        let mut quote: String = line.chars().skip(skip).take(ROOM).collect();
        if skip > 0 {
            quote.insert(0, '…');
        }
        if line.chars().count() > skip + ROOM {
            quote.push('…');
        }
        quote.trim().to_owned()
    }

    fn error(&self, code: &'static str, offset: usize, message: impl Into<String>) -> SyntaxError {
        let (line, column) = self.position(offset.min(self.text.len()));
        SyntaxError { code, message: message.into(), line, column, hint: None }
    }
}

/// Where the bytes of the parser's text are in the text as written.
pub(crate) struct Offsets {
    wrap: usize,
    /// For each line of the parser's text: where it starts there, and how many bytes to add.
    lines: Vec<(usize, usize)>,
}

impl Offsets {
    fn new(source: &Source) -> Self {
        let mut lines = Vec::new();
        let (mut at, mut removed) = (0, 0);
        if source.wrap == 0 {
            for line in source.text.split_inclusive('\n') {
                let cut = cut(line, source.indent);
                removed += cut;
                lines.push((at, removed));
                at += line.len() - cut;
            }
        }
        Self { wrap: source.wrap, lines }
    }

    /// The offset in the text as written.
    pub(crate) fn original(&self, parsed: usize) -> usize {
        let line = self.lines.partition_point(|(start, _)| *start <= parsed);
        let cut = line.checked_sub(1).and_then(|line| self.lines.get(line)).map_or(0, |(_, cut)| *cut);
        (parsed + cut).saturating_sub(self.wrap)
    }
}

fn common_indent(text: &str) -> usize {
    text.split_inclusive('\n').filter(|line| !is_blank(line)).map(spaces).min().unwrap_or(0)
}

fn is_blank(line: &str) -> bool {
    line.trim_matches([' ', '\r', '\n']).is_empty()
}

fn spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// How many bytes are taken off a line where this indentation is common; a blank line may have less.
fn cut(line: &str, indent: usize) -> usize {
    if is_blank(line) { spaces(line) } else { spaces(line).min(indent) }
}

/// Parses, or says what is wrong and where in the text as written.
pub(crate) fn parse(text: &str, shape: Shape) -> Result<(Source, Offsets, ast::AstStmt), SyntaxError> {
    let source = Source::new(text, shape);
    if text.len() > SOURCE_LIMIT {
        let message = format!("the source is {} bytes long, at most {SOURCE_LIMIT} are allowed", text.len());
        return Err(source.error("EXPRESSION_TOO_LONG", 0, message));
    }
    if text.trim().is_empty() {
        let message = match shape {
            Shape::Expression => "an expression is expected, there is nothing",
            Shape::Program => "a program is expected, there is nothing",
        };
        return Err(source.error("EXPRESSION_SYNTAX", 0, message));
    }
    let parsed = source.parsed();
    let offsets = Offsets::new(&source);
    check_tokens(&source, &offsets, &parsed, shape)?;
    match AstModule::parse("expression", parsed.clone(), &DIALECT) {
        Ok(module) => {
            let (_, statement, _, _) = module.into_parts();
            Ok((source, offsets, statement))
        }
        Err(error) => {
            let begin = error.span().map_or(0, |span| span.span.begin().get() as usize);
            let end = error.span().map_or(0, |span| span.span.end().get() as usize);
            let token = parsed.get(begin..end).unwrap_or_default();
            Err(explain(&source, &offsets, begin, token, &error.without_diagnostic().to_string()))
        }
    }
}

fn explain(source: &Source, offsets: &Offsets, begin: usize, token: &str, message: &str) -> SyntaxError {
    let offset = offsets.original(begin);
    let message = message.trim().trim_start_matches("Parse error: ");
    if source.wrap > 0 && offset > source.text.trim_end().len() {
        let what = message.rsplit_once("expected ").map_or("more", |(_, what)| what);
        return source.error(
            "EXPRESSION_SYNTAX",
            source.text.trim_end().len(),
            format!("it ends where {what} is expected"),
        );
    }
    let mut message = message.to_owned();
    if source.wrap > 0
        && let Some(short) = message.strip_suffix(", expected symbol ')'")
    {
        message = format!("{short} behind a complete expression");
    }
    let hint = match token {
        "=" => Some("`==` compares; one expression cannot assign"),
        "**" => Some("there is no power operator; multiply"),
        "is" => Some("use `==`, also with None"),
        "while" => Some("there is no `while`; use `for i in range(n):` with `break`"),
        "import" | "from" | "load" => Some("everything there is can be used without it"),
        "try" | "except" | "raise" | "with" | "class" | "yield" | "async" | "await" | "global"
        | "nonlocal" | "del" | "assert" => Some("Starlark does not have this word of Python"),
        "&&" | "&" if message.starts_with("unexpected") => Some("use `and`"),
        "||" | "|" if message.starts_with("unexpected") => Some("use `or`"),
        "!" => Some("use `not`"),
        "?" => Some("use `a if condition else b`"),
        "$" => {
            Some("a path `$.a.b` stands alone, as a whole string or template; in an expression use `ctx.a.b`")
        }
        _ if message.contains("comparisons are not associative") => Some("write `a < b and b < c`"),
        _ => None,
    };
    SyntaxError { hint: hint.map(str::to_owned), ..source.error("EXPRESSION_SYNTAX", offset, message) }
}

/// What stands open while the tokens are read.
struct Open {
    /// Everything in the current expression that can make the tree one deeper.
    weight: usize,
    /// `lambda`s whose parameters are still being listed: their commas end no expression.
    lambdas: usize,
}

/// Refuses what would nest too deeply for the recursion of the parser, and what would escape the brackets put
/// around an expression.
fn check_tokens(source: &Source, offsets: &Offsets, parsed: &str, shape: Shape) -> Result<(), SyntaxError> {
    let too_nested = |at: usize| {
        let mut error = source.error(
            "EXPRESSION_TOO_NESTED",
            offsets.original(at),
            "the source nests too deeply, or chains too many operators, here",
        );
        error.hint = Some("split it into several statements or states".to_owned());
        error
    };
    let codemap = CodeMap::new("expression".to_owned(), parsed.to_owned());
    let mut open = vec![Open { weight: 0, lambdas: 0 }];
    let (mut outer, mut indents, mut elifs) = (0, 0_usize, vec![0_usize]);
    let (mut operand, mut line_start) = (false, true);
    let last = parsed.len().saturating_sub(1);
    for token in Lexer::new(parsed, &DIALECT, codemap) {
        // The parser meets the same error, and says it better.
        let Ok((at, token, _)) = token else { return Ok(()) };
        let level = open.len();
        let Some(here) = open.last_mut() else { return Ok(()) };
        let mut after = false;
        let line_start_after =
            matches!(token, Token::Newline | Token::Indent | Token::Dedent | Token::Semicolon);
        match token {
            Token::OpeningRound | Token::OpeningSquare | Token::OpeningCurly | Token::FStringExprStart => {
                here.weight += usize::from(operand);
                outer += here.weight + BRACKET;
                open.push(Open { weight: 0, lambdas: 0 });
            }
            Token::ClosingRound | Token::ClosingSquare | Token::ClosingCurly | Token::FStringExprEnd => {
                open.pop();
                after = true;
                match open.last() {
                    Some(below) => outer -= below.weight + BRACKET,
                    None => return Ok(()),
                }
                if shape == Shape::Expression && open.len() == 1 && at < last {
                    return Err(source.error(
                        "EXPRESSION_SYNTAX",
                        offsets.original(at),
                        "a bracket is closed that was not opened",
                    ));
                }
            }
            Token::Comma | Token::Semicolon | Token::Equal => {
                if here.lambdas == 0 {
                    here.weight = 0;
                }
                if shape == Shape::Expression && level == 2 && here.lambdas == 0 {
                    let mut error = source.error(
                        "EXPRESSION_SYNTAX",
                        offsets.original(at),
                        "one expression is expected, not several or an assignment",
                    );
                    error.hint = (token == Token::Equal).then(|| "`==` compares".to_owned());
                    return Err(error);
                }
            }
            Token::Colon if here.lambdas > 0 => here.lambdas -= 1,
            Token::Colon => here.weight = 0,
            Token::Newline if level == 1 => *here = Open { weight: 0, lambdas: 0 },
            Token::Indent => {
                indents += 1;
                elifs.push(0);
            }
            Token::Dedent => {
                indents = indents.saturating_sub(1);
                elifs.pop();
            }
            Token::Elif => {
                if let Some(elifs) = elifs.last_mut() {
                    *elifs += 1;
                }
            }
            Token::Lambda => {
                here.lambdas += 1;
                here.weight += BRACKET;
            }
            Token::Identifier(_)
            | Token::Int(_)
            | Token::Float(_)
            | Token::String(_)
            | Token::Bytes(_)
            | Token::Ellipsis
            | Token::FStringEnd => after = true,
            Token::Newline | Token::FStringStart(_) | Token::FStringText(_) | Token::FStringBang => {}
            Token::If if line_start => {
                if let Some(elifs) = elifs.last_mut() {
                    *elifs = 0;
                }
            }
            // Operators, dots, `not`, `if`, `else`, `for`, `in` and other words.
            _ => here.weight += 1,
        }
        operand = after;
        line_start = open.len() == 1 && line_start_after;
        let weight = open.last().map_or(0, |open| open.weight);
        if outer + weight + indents * BRACKET + elifs.iter().sum::<usize>() > NESTING_LIMIT {
            return Err(too_nested(at));
        }
    }
    Ok(())
}
