//! The world outside, which is told what happened to runs.

use async_trait::async_trait;
use runtime::ports::Notice;
use runtime::ports::Notifier;
use runtime::ports::StoreError;

use super::Port;
use crate::observation::What;
use crate::world::About;
use crate::world::Nature;

#[async_trait]
impl Notifier for Port {
    async fn notify(&self, notices: Vec<Notice>) -> Result<(), StoreError> {
        let run = notices.first().map(|notice| notice.run.clone());
        let about = run.as_ref().map_or(About::Nothing, About::Run);
        let hear = |_| async {
            for notice in notices {
                self.world.observe(Some(&self.life), What::Notified(Box::new(notice)));
            }
            Ok(())
        };
        self.call("notify", about, Nature::Notify, hear, |error| error).await
    }
}
