//! Kept connections to one server.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::Fallible;

async fn connect(address: &str) -> Fallible<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// A connection that speaks HTTP/1.1.
pub struct Http1(http1::SendRequest<Full<Bytes>>);

impl Http1 {
    /// Connects to `HOST:PORT`.
    pub async fn open(address: &str) -> Fallible<Self> {
        let (sender, connection) = http1::handshake(connect(address).await?).await?;
        tokio::spawn(async move {
            // Requests on a connection that fails, fail.
            let _ = connection.await;
        });
        Ok(Self(sender))
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Fallible<(u16, Bytes)> {
        self.0.ready().await?;
        let response: Response<Incoming> = self.0.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// A connection that speaks gRPC.
#[derive(Clone)]
pub struct Grpc {
    sender: http2::SendRequest<Full<Bytes>>,
    address: String,
}

impl Grpc {
    /// Connects to `HOST:PORT`.
    pub async fn open(address: &str) -> Fallible<Self> {
        let io = connect(address).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, address: address.to_owned() })
    }

    /// Calls a method and returns the message that it answers.
    pub async fn call(&mut self, method: &str, message: &[u8]) -> Fallible<Vec<u8>> {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        body.extend_from_slice(message);
        let request = Request::post(format!("http://{}/{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let early = response.headers().get("grpc-message").cloned();
        let collected = response.into_body().collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = collected.to_bytes();
        match trailers.get("grpc-status").map(|status| status.as_bytes()) {
            Some(b"0") => {}
            _ => {
                let why = trailers.get("grpc-message").or(early.as_ref());
                return Err(format!("{method}: {why:?}").into());
            }
        }
        Ok(body.get(5..).unwrap_or_default().to_vec())
    }
}
