//! The Durable Object around the session core: it feeds inputs, commits, and carries out what comes of them.
//!
//! Every input is one synchronous storage transaction. When it fails or panics, the transaction is rolled back, the
//! core and its outputs are dropped, and a new core is built from SQLite before anything else happens.
//!
//! The Worker's shell needs in its `wrangler.toml`:
//!
//! ```toml
//! [[durable_objects.bindings]]
//! name = "SESSION"
//! class_name = "SessionDO"
//!
//! [[migrations]]
//! tag = "v1"
//! new_sqlite_classes = ["SessionDO"]
//! ```

mod alarm;
mod commit;
pub mod hibernation;
mod jobs;
mod requests;
mod sockets;
pub mod storage;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use futures_channel::oneshot;
use oi_protocol::UnixMillis;
use oi_session::call::CallReply;
use oi_session::clock::Config;
use oi_session::core::SessionCore;
use oi_session::gather::Gather;
use oi_session::input::ReplyId;
use oi_session::job::{ClaimedJob, JobResult};
use worker::{Request, Response, State, WebSocket, WebSocketIncomingMessage};

use crate::sockets::SocketTable;
use crate::storage::{StorageSql, TransactionalStorage};

/// What the control plane lends to its sessions: settings, and the runner of their jobs.
pub trait Effects: 'static {
    /// Settings of the deployment. Asked once for each object.
    fn config(&self) -> Config;

    /// Tests and benches only: whether the object counts what its statements cost, which `GET /costs` answers.
    fn counts_costs(&self) -> bool {
        false
    }

    /// Runs one attempt of a job. The host bounds it by the job's own deadline; an attempt that is not finished then
    /// has an unknown outcome, which the next attempt is told by `look_first`.
    fn run(&self, claimed: &ClaimedJob) -> impl Future<Output = JobResult>;
}

/// One session's host.
pub struct Host<E> {
    inner: Rc<Inner<E>>,
}

// A panic within an input is caught at the transaction, and what it may have left half done is dropped with the core.
impl<E> UnwindSafe for Host<E> {}
impl<E> RefUnwindSafe for Host<E> {}

struct Inner<E> {
    state: State,
    transactions: TransactionalStorage,
    sql: StorageSql,
    effects: E,
    config: Config,
    /// `None` before the first input and after a fault.
    core: RefCell<Option<SessionCore>>,
    sockets: RefCell<SocketTable>,
    waiters: RefCell<HashMap<ReplyId, oneshot::Sender<CallReply>>>,
    next_reply: Cell<u64>,
    /// When the alarm is known to fire; `None` when it is not known to be armed.
    armed: Cell<Option<UnixMillis>>,
    /// The alarm is not armed before this.
    alarm_floor: Cell<UnixMillis>,
    tick_scheduled: Cell<bool>,
    /// Frames of the bridge that wait for what arrives with them.
    gather: RefCell<Gather>,
}

fn now() -> UnixMillis {
    UnixMillis(worker::Date::now().as_millis() as i64)
}

impl<E: Effects> Host<E> {
    /// Does nothing that can fail, and nothing that grows with the session.
    pub fn new(state: State, effects: E) -> Self {
        hibernation::answer_pings(&state);
        let config = effects.config();
        let inner = Inner {
            transactions: TransactionalStorage::of(&state),
            sql: StorageSql::new(state.storage().sql(), effects.counts_costs()),
            effects,
            config,
            core: RefCell::new(None),
            sockets: RefCell::new(SocketTable::default()),
            waiters: RefCell::new(HashMap::new()),
            next_reply: Cell::new(1),
            armed: Cell::new(None),
            alarm_floor: Cell::new(UnixMillis(0)),
            tick_scheduled: Cell::new(false),
            gather: RefCell::new(Gather::default()),
            state,
        };
        Self { inner: Rc::new(inner) }
    }

    /// A call (`POST /call` with a `CallEnvelope`) or a WebSocket upgrade (`?type=sandbox` for a bridge).
    pub async fn fetch(&self, request: Request) -> worker::Result<Response> {
        requests::fetch(&self.inner, request).await
    }

    /// A durable deadline may be due. Never fails: a fault is logged and the alarm armed again.
    pub fn alarm(&self) -> worker::Result<Response> {
        alarm::fired(&self.inner);
        Response::empty()
    }

    /// A frame arrived.
    pub fn websocket_message(&self, socket: &WebSocket, message: WebSocketIncomingMessage) {
        sockets::message(&self.inner, socket, message);
    }

    /// A socket closed; it is closed from this side too.
    pub fn websocket_close(&self, socket: &WebSocket, code: usize, reason: &str) {
        sockets::closed(&self.inner, socket);
        hibernation::close_back(socket, code, reason);
    }

    /// A socket failed, which closes it.
    pub fn websocket_error(&self, socket: &WebSocket) {
        sockets::closed(&self.inner, socket);
    }
}
