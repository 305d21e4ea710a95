//! hyper, unchanged, server and client: a stream in `TokioIo` is all it needs.

use bulkhead::net::pair;
use bulkhead_examples::builder;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    Ok(Response::new(Full::from(format!("you asked for {}", request.uri().path()))))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let listener = server.listen(([10, 0, 0, 1], 80).into())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });

    let stream = client.connect(([10, 0, 0, 1], 80).into()).await?;
    let (mut http, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for path in ["/one", "/two"] {
        let request = Request::get(path).header("host", "10.0.0.1").body(Empty::<Bytes>::new())?;
        let body = http.send_request(request).await?.into_body().collect().await?.to_bytes();
        println!("{}", String::from_utf8_lossy(&body));
        assert_eq!(body, format!("you asked for {path}"));
    }
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
