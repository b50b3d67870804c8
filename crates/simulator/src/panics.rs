//! Panics of a history, wherever they are caught: in a worker's task, in a handler.

use std::cell::Cell;
use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOKED: Once = Once::new();

/// Hears the panics of this thread until it is dropped, and keeps them from being printed.
pub(crate) struct Listener(());

impl Listener {
    pub(crate) fn new() -> Self {
        HOOKED.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(
                move |panic| {
                    if LISTENING.get() { hear(panic) } else { before(panic) }
                },
            ));
        });
        HEARD.take();
        LISTENING.set(true);
        Self(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.set(false);
    }
}

fn hear(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    HEARD.with_borrow_mut(|heard| {
        heard.get_or_insert_with(|| format!("{message} ({place})"));
    });
}

/// The first panic since this was asked last.
pub(crate) fn taken() -> Option<String> {
    HEARD.take()
}
