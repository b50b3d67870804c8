//! The embedded home: a database file, who holds it, and the runtime over it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::Response;
use http_api::Api;
use runtime::Ports;
use runtime::Runtime;
use runtime::Service;
use runtime::ServiceOptions;
use runtime::SystemClock;
use runtime::SystemIds;
use runtime::ports::Catalog;
use runtime::ports::Clock;
use runtime::ports::StoreError;
use sqlite::Store;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::Global;
use crate::client::Client;
use crate::client::Server;
use crate::output::Failure;

/// Where the database is, unless said otherwise.
pub(crate) const DEFAULT_DATABASE: &str = ".stepwell/stepwell.db";

/// The database that the options name.
pub(crate) fn database(global: &Global) -> PathBuf {
    global.db.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATABASE))
}

/// The open database and the runtime over it.
pub(crate) struct Home {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) api: Api,
    workers: Option<Workers>,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code, error.message)
    }
}

/// The API of the server that holds the database, or the database itself. It must exist.
pub(crate) fn open_or_server(database: &Path) -> Result<Client, Failure> {
    if !database.exists() {
        return Err(Failure::new(
            "DATABASE_NOT_FOUND",
            format!("there is no database at `{}`", database.display()),
        )
        .hint("name it with --db or STEPWELL_DB; `stepwell sync` and `stepwell serve` make one"));
    }
    if let Some(holder) = sqlite::holder(database)? {
        return match &holder.address {
            Some(address) => Ok(Client::Server(Server::at(address)?)),
            None => Err(Failure::new(
                "STORE_LOCKED",
                format!("`{}` is held by process {}, which serves nothing", database.display(), holder.pid),
            )
            .hint("wait until it is done, or stop it")),
        };
    }
    let folder = std::env::current_dir().unwrap_or_default();
    Ok(Client::Here(Box::new(Home::open(database, &folder)?)))
}

/// How the workers of a home work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Whether schedules start runs.
    pub(crate) schedules: bool,
    /// How long steps may go on when it is time to stop.
    pub(crate) grace: Duration,
}

/// Workers at work: how they are told to stop, and when they have.
struct Workers {
    stop: oneshot::Sender<()>,
    stopped: JoinHandle<()>,
}

impl Home {
    /// Opens the database, making it if need be. Relative paths in definitions of agents begin in `folder`.
    pub(crate) fn open(database: &Path, folder: &Path) -> Result<Self, Failure> {
        if let Some(parent) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| {
                Failure::new("STORE_PATH", format!("cannot make the folder `{}`: {error}", parent.display()))
            })?;
        }
        let store = Store::open(database, &sqlite::Options::default())?;
        let catalog: Arc<dyn Catalog> = Arc::new(store.clone());
        let unusable =
            |error: agents::ProcessTableError| Failure::new("PROCESS_TABLE_UNUSABLE", error.to_string());
        // Programs that outlive a killed engine are remembered beside the database, and ended before their steps go on.
        let mut processes = store.path().as_os_str().to_owned();
        processes.push(".processes");
        let processes = PathBuf::from(processes);
        let actions =
            agents::Options::new(folder).with_process_table(processes).build(Arc::new(catalog.clone()));
        let ids = SystemIds::new()
            .map_err(|error| Failure::new("SYSTEM", format!("the system gives no randomness: {error}")))?;
        let options = runtime::Options::exclusive(ids.worker());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let actions = Arc::new(actions.map_err(unusable)?);
        // The secrets by which webhooks are signed are those that actions use.
        let secrets = Arc::new(actions.secrets().clone());
        let ports = Ports {
            journal: Arc::new(store.clone()),
            catalog,
            doorbell: Arc::new(runtime::memory::Doorbell::new(clock.clone())),
            agents: actions,
            clock,
            ids: Arc::new(ids),
        };
        let runtime = Runtime::new(ports, options);
        let api = Api::new(runtime.clone()).with_secrets(secrets);
        Ok(Self { store, runtime, api, workers: None })
    }

    /// From now on runs are performed, those first that were under way.
    pub(crate) fn start(&mut self, work: Work) {
        let options =
            ServiceOptions { schedules: work.schedules, grace: work.grace, ..ServiceOptions::default() };
        let service = Service::new(self.runtime.clone(), options);
        let (stop, stopping) = oneshot::channel::<()>();
        let stopped = tokio::spawn(service.run(async {
            let _ = stopping.await;
        }));
        self.workers = Some(Workers { stop, stopped });
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.api.call(request).await
    }

    /// Ends what is performed, writes what waits, and gives the database back.
    pub(crate) async fn close(self) {
        if let Some(workers) = self.workers {
            let _ = workers.stop.send(());
            let _ = workers.stopped.await;
        }
        let store = self.store;
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}
