//! Serves the control socket: who may, how many, and for how long.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::peer::{Peer, PeerError};
use super::problem::{Problem, in_our_form};
use super::routes;
use super::socket::ControlSocket;
use crate::controller::Controller;

/// Connections at once: many front ends, and few enough not to take descriptors from the workload's.
const CONNECTIONS_MAX: usize = 32;

/// How long a request's head may take, from the connection's beginning.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection may take in all, unless it follows events. Compiling a large policy takes
/// seconds.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);

/// How long it may take to tell a peer that it is refused.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// A request's head at most, in bytes: keys and patterns stand in paths.
const HEAD_BYTES_MAX: usize = 16 * 1024;

impl ControlSocket {
    /// Serves until `shutdown` is over or this is dropped; connections that are still open end with it.
    ///
    /// # Errors
    /// When the socket cannot be used at all; nothing was served then.
    pub async fn serve(
        self,
        controller: Arc<Controller>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let router = guarded(routes::router(controller));
        let home = Arc::from(&*self.home);
        tokio::select! {
            () = accept_all(&listener, &router, &home) => {}
            () = shutdown => {}
        }
        Ok(())
    }
}

async fn accept_all(listener: &UnixListener, router: &Router, home: &Arc<str>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Aborts what it holds when it is dropped.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, home) = (router.clone(), Arc::clone(home));
                connections.spawn(async move {
                    serve_connection(stream, router, &home).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One request and its answer. Clients connect again for the next; that costs them nothing, and leaves
/// no idle connection to be watched.
async fn serve_connection(stream: UnixStream, router: Router, home: &str) {
    let peer = Peer::of(&stream, home);
    if let Err(reason) = &peer.actor {
        tracing::warn!(%reason, "a process may not use the control socket");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = connection => if let Err(error) = served {
            tracing::debug!(%error, "a control connection failed");
        },
        () = overtime(&peer) => tracing::debug!("a control connection took too long"),
    }
}

async fn overtime(peer: &Peer) {
    let deadline = if peer.actor.is_ok() { CONNECTION_DEADLINE } else { REFUSAL_DEADLINE };
    tokio::time::sleep(deadline).await;
    if peer.follows() {
        pending::<Infallible>().await;
    }
}

/// A router that serves only who may, and whose every refusal is a problem in our form.
fn guarded(router: Router) -> Router {
    router.layer(from_fn(admit)).layer(map_response(in_our_form))
}

async fn admit(request: Request, next: Next) -> Response<Body> {
    let peer = request.extensions().get::<Peer>();
    let actor = peer.map_or(Err(PeerError::Unknown), |peer| peer.actor);
    match actor {
        Err(reason) => Problem::new(StatusCode::FORBIDDEN, "not-yours", reason.to_string()).into_response(),
        Ok(_) if request.headers().contains_key(ORIGIN) => {
            // Somebody has put the socket behind a port where web pages can reach it.
            let detail = "a web page may not use the control socket; the request has an Origin header";
            Problem::new(StatusCode::FORBIDDEN, "web-page", detail).into_response()
        }
        Ok(actor) => {
            let (mut head, body) = request.into_parts();
            head.extensions.insert(actor);
            next.run(Request::from_parts(head, body)).await
        }
    }
}
