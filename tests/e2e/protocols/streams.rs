//! What stays open: events, WebSockets, gRPC.

use std::time::Duration;

use e2e::{Origin, OriginConfig, PythonServer, Reply, World};

use crate::row::{Client, Row};
use crate::stage::address;
use crate::web::CURL;

const WEBSOCKETS: Client = Client {
    name: "Python websockets",
    version: "\"$PY\" -c 'import websockets; print(websockets.__version__)'",
};
const WS: Client = Client { name: "node ws", version: "node -p 'require(\"ws/package.json\").version'" };
const GRPCIO: Client =
    Client { name: "grpcio", version: "\"$PY\" -c 'import grpc; print(grpc.__version__)'" };

const TONIC: Client = Client {
    name: "tonic",
    version: "sed -n '/^name = \"tonic\"$/{n;s/^version = \"\\(.*\\)\"$/\\1/p}' \"$LOCK\"",
};

/// Where `api.test` sends events.
const EVENTS_PORT: u16 = 8443;

/// The events of `api.test`, `socket.test` and `grpc.test`.
pub(crate) struct Streams<'world> {
    _events: Origin,
    _socket: PythonServer<'world>,
    _grpc: PythonServer<'world>,
}

impl<'world> Streams<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        let at = address("api.test", EVENTS_PORT);
        let config = OriginConfig { address: at.ip(), port: at.port(), ..OriginConfig::default() };
        let events = Origin::start_with(world, config, |_| {
            let start =
                Reply::new(200, "retry: 1000\n\n").header("content-type", "text/event-stream").chunked();
            (1..=20).fold(start, |reply, number| {
                let event = format!("id: {number}\nevent: tick\ndata: {number} and ü\n\n");
                reply.pause(Duration::from_millis(30)).then(event)
            })
        });
        let socket = include_str!("../websocket/origin.py");
        let ports = [address("socket.test", 80), address("socket.test", 443)];
        let socket = PythonServer::start(world, socket, "socket.test", ports);
        let ports = [address("grpc.test", 50051), address("grpc.test", 443)];
        let grpc = PythonServer::start(world, include_str!("../grpc/server.py"), "grpc.test", ports);
        for (name, text) in [
            ("websockets_client.py", include_str!("clients/websockets_client.py")),
            ("ws.js", include_str!("clients/ws.js")),
            (
                "grpcio_client.py",
                concat!(include_str!("../grpc/client.py"), include_str!("clients/grpcio_client.py")),
            ),
        ] {
            world.file(&format!("clients/{name}"), text);
        }
        Self { _events: events, _socket: socket, _grpc: grpc }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let events = |version: &str| format!("curl -sS -N {version} https://api.test:{EVENTS_PORT}/events");
    let websockets = |url: &str| format!("\"$PY\" \"$CLIENTS/websockets_client.py\" {url}");
    let grpcio = |target: &str| format!("\"$PY\" \"$CLIENTS/grpcio_client.py\" {target}");
    vec![
        Row::new("server-sent events, HTTP/1.1", CURL, events("--http1.1"), "id: 20\n"),
        Row::new("server-sent events, HTTP/2", CURL, events("--http2"), "id: 20\n"),
        Row::new("WebSocket (wss)", WEBSOCKETS, websockets("wss://socket.test/python"), "as you wish"),
        Row::new("WebSocket (ws)", WEBSOCKETS, websockets("ws://socket.test/python"), "as you wish"),
        Row::new("WebSocket (wss)", WS, "node \"$CLIENTS/ws.js\" wss://socket.test/node", "as you wish"),
        Row::new("WebSocket (ws)", WS, "node \"$CLIENTS/ws.js\" ws://socket.test/node", "as you wish"),
        Row::new("gRPC over TLS: all four kinds", GRPCIO, grpcio("grpc.test:443 tls"), "NOT_FOUND"),
        Row::new("gRPC over h2c: all four kinds", GRPCIO, grpcio("grpc.test:50051 plain"), "NOT_FOUND"),
        Row::new("gRPC over TLS: all four kinds", TONIC, "\"$TONIC\" https://grpc.test", "no such thing"),
        Row::new(
            "gRPC over h2c: all four kinds",
            TONIC,
            "\"$TONIC\" http://grpc.test:50051",
            "no such thing",
        ),
    ]
}
