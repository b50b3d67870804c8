//! Says how long small conditions and templates take to evaluate.
//!
//! `cargo run --release --example speed -p stepwell-expression`

// Measuring is the one thing that needs a clock.
#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use stepwell_expression::{
    Budget, Data, Environment, Expression, Names, Path, Program, Template, TemplateOptions, Value,
};

const TIMES: u32 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let context = Value::parse_json(
        r#"{
            "thresholds": {"errorRate": 0.05}, "services": ["api", "web", "worker"], "namespace": "production",
            "steps": {"health": {"result": {"error_rate": 0.12, "status": "degraded"}}}
        }"#,
    )?;
    let names = Names::builder().state("check").result(&Path::parse("steps.health")?, "check").build();
    let input = Value::object();
    let mut environment = Environment::new(&context, &input, &names);
    environment.data = Some(Data::read(&Path::parse("steps.health.result")?, &environment)?);

    for source in [
        "true",
        "error_rate > ctx.thresholds.errorRate",
        "status == 'degraded'",
        "steps.health.output.result.error_rate > 0.1 and status != 'ok'",
        "len(services) > 2 and 'web' in services",
        "[s.upper() for s in services if s != namespace]",
    ] {
        let expression = Expression::parse(source)?;
        measure(source, || expression.eval(&environment, &mut Budget::quick()).is_ok());
    }
    let template =
        Template::parse("Check {{ ctx.services }} in {{ namespace }}", &TemplateOptions::default())?;
    measure(template.source(), || template.eval(&environment, &mut Budget::quick()).is_ok());
    let program = Program::parse("total = 0\nfor i in range(100):\n  total += i * 2\ntotal")?;
    measure("a loop of 100", || program.eval(&environment, &mut Budget::quick()).is_ok());
    measure("parsing a condition", || Expression::parse("error_rate > ctx.thresholds.errorRate").is_ok());
    let endless = Program::parse("for i in range(1000000000):\n  pass\n1")?;
    let started = Instant::now();
    let _ = black_box(endless.eval(&environment, &mut Budget::quick()));
    println!("{:>10.1?}  until a quick try gives up", started.elapsed());
    let started = Instant::now();
    let _ = black_box(endless.eval(&environment, &mut Budget::full()));
    println!("{:>10.1?}  until a full budget is used up", started.elapsed());
    Ok(())
}

fn measure(what: &str, mut work: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut done = true;
    for _ in 0..TIMES {
        done &= black_box(work());
    }
    println!("{:>10.0?}  {what}{}", started.elapsed() / TIMES, if done { "" } else { " (fails)" });
}
