//! The session's Durable Object: a shell around the generic host, which a macro needs to be concrete.

use oi_session_host::Host;
use worker::{DurableObject, Env, Request, Response, State, WebSocket, WebSocketIncomingMessage, durable_object};

use crate::effects::ControlPlaneEffects;

/// One session. The name is that of the deployed class and never changes.
#[durable_object]
pub struct SessionDO {
    host: Host<ControlPlaneEffects>,
}

impl DurableObject for SessionDO {
    fn new(state: State, env: Env) -> Self {
        Self { host: Host::new(state, ControlPlaneEffects::new(env)) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        self.host.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.host.alarm()
    }

    async fn websocket_message(&self, socket: WebSocket, message: WebSocketIncomingMessage) -> worker::Result<()> {
        self.host.websocket_message(&socket, message);
        Ok(())
    }

    async fn websocket_close(
        &self,
        socket: WebSocket,
        code: usize,
        reason: String,
        _was_clean: bool,
    ) -> worker::Result<()> {
        self.host.websocket_close(&socket, code, &reason);
        Ok(())
    }

    async fn websocket_error(&self, socket: WebSocket, _error: worker::Error) -> worker::Result<()> {
        self.host.websocket_error(&socket);
        Ok(())
    }
}
