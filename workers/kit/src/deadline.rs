//! The deadline of a fetch. Its timer goes with it: `AbortSignal.timeout()` keeps its own until it fires, and a pending
//! timer keeps a Durable Object in memory, where it would sleep otherwise.

use std::time::Duration;

use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use worker::web_sys::{AbortController, AbortSignal, WorkerGlobalScope};

fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Aborts what has its signal, unless it is dropped before.
pub struct Deadline {
    controller: AbortController,
    timer: Option<i32>,
    _abort: Closure<dyn FnMut()>,
}

impl Deadline {
    /// From now on.
    pub fn after(within: Duration) -> worker::Result<Self> {
        let controller = AbortController::new()?;
        let aborted = controller.clone();
        let abort = Closure::wrap_assert_unwind_safe(Box::new(move || aborted.abort()) as Box<dyn FnMut()>);
        let ms = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        let timer =
            scope().set_timeout_with_callback_and_timeout_and_arguments_0(abort.as_ref().unchecked_ref(), ms)?;
        Ok(Self { controller, timer: Some(timer), _abort: abort })
    }

    /// What a fetch is given.
    pub fn signal(&self) -> AbortSignal {
        self.controller.signal()
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.controller.signal().aborted()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            scope().clear_timeout_with_handle(timer);
        }
    }
}
