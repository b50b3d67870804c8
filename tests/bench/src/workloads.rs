//! The workloads: files of a project, and how many steps one run of each has.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// One line of the table.
pub(crate) struct Workload {
    /// Its name, which is the workflow's id.
    pub(crate) name: &'static str,
    /// How many runs are under way at once.
    pub(crate) clients: usize,
    /// Steps that are performed in one run.
    pub(crate) steps: usize,
    /// End after so many runs although there is time.
    pub(crate) runs: usize,
    /// Whether its steps are calls of another process.
    pub(crate) needs_agent: bool,
    definition: fn() -> String,
}

/// Every workload, in the order of the table.
pub(crate) fn all() -> Vec<Workload> {
    let endless = usize::MAX;
    let of = |name, clients, steps, runs, definition| Workload {
        name,
        clients,
        steps,
        runs,
        needs_agent: false,
        definition,
    };
    vec![
        of("w1-1", 1, 1, endless, || sequence("w1-1", 1, "constant")),
        of("w1-3", 1, 3, endless, || sequence("w1-3", 3, "constant")),
        of("w1-10", 1, 10, endless, || sequence("w1-10", 10, "constant")),
        of("w2", 1, 10, endless, fork),
        of("w1-1", 64, 1, endless, || sequence("w1-1", 1, "constant")),
        of("w1-3", 64, 3, endless, || sequence("w1-3", 3, "constant")),
        of("w1-10", 64, 10, endless, || sequence("w1-10", 10, "constant")),
        of("w2", 64, 10, endless, fork),
        Workload {
            needs_agent: true,
            ..of("http-10", 64, 10, endless, || sequence("http-10", 10, "remote"))
        },
        // The same steps, ten and ten thousand in one run: a step must not cost more for those before it.
        of("loop-10", 1, 10, endless, || repeat("loop-10", 10)),
        of("loop-10000", 1, 10_000, 3, || repeat("loop-10000", 10_000)),
        of("items-10", 1, 10, endless, || each("items-10", 10)),
        of("items-10000", 1, 10_000, 3, || each("items-10000", 10_000)),
    ]
}

impl Workload {
    /// Writes the project into `folder`.
    pub(crate) fn write(&self, folder: &Path, agent: Option<&str>) -> Result<(), Box<dyn Error>> {
        std::fs::create_dir_all(folder.join("workflows"))?;
        std::fs::create_dir_all(folder.join("agents"))?;
        let file = format!("workflows/{}.workflow.yaml", self.name);
        std::fs::write(folder.join(file), (self.definition)())?;
        std::fs::write(
            folder.join("agents/constant.agent.yaml"),
            "type: static\noutput: {status: healthy, error_rate: 0.01}\n",
        )?;
        if let Some(address) = agent {
            let text = format!("type: http\nurl: http://{address}/work\nmethod: POST\n");
            std::fs::write(folder.join("agents/remote.agent.yaml"), text)?;
        }
        Ok(())
    }
}

fn sequence(id: &str, steps: usize, agent: &str) -> String {
    let mut text = format!("id: {id}\nversion: '1'\nstates:\n");
    for step in 1..=steps {
        let _ =
            write!(text, "  - id: step{step}\n    type: agent\n    agent: {agent}\n    task: look at it\n");
        let _ = if step < steps {
            writeln!(text, "    next: step{}", step + 1)
        } else {
            writeln!(text, "    end: true")
        };
    }
    text
}

fn fork() -> String {
    let mut text = String::from(
        "id: w2\nversion: '1'\nstates:\n  - id: all\n    type: parallel\n    end: true\n    branches:\n",
    );
    for branch in 1..=10 {
        let _ = writeln!(text, "      - {{name: branch{branch}, agent: constant, task: look at it}}");
    }
    text
}

fn repeat(id: &str, steps: usize) -> String {
    format!(
        "id: {id}
version: '1'
states:
  - id: begin
    type: inject
    data: {{done: 0}}
    next: again
  - id: again
    type: while
    condition: done < {steps}
    maxIterations: {steps}
    end: true
    iterator:
      states:
        - id: work
          type: agent
          agent: constant
          task: look at it
          next: count
        - id: count
          type: transform
          expression: done + 1
          outputPath: done
          end: true
"
    )
}

fn each(id: &str, items: usize) -> String {
    format!(
        "id: {id}
version: '1'
states:
  - id: list
    type: transform
    expression: list(range({items}))
    outputPath: numbers
    next: all
  - id: all
    type: foreach
    itemsPath: numbers
    end: true
    iterator:
      states:
        - id: work
          type: agent
          agent: constant
          task: look at it
          input: {{number: $.item}}
          end: true
"
    )
}
