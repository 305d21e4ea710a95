//! TLS over the streams with tokio-rustls, unchanged: the wall below, encryption above.

use bulkhead::net::pair;
use bulkhead_examples::builder;
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let made = rcgen::generate_simple_self_signed(vec!["behind.test".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = server.listen(([10, 0, 0, 1], 443).into())?;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await?;
        stream.write_all(asked.to_uppercase().as_bytes()).await?;
        stream.shutdown().await
    });

    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = client.connect(([10, 0, 0, 1], 443).into()).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect("behind.test".try_into()?, stream).await?;
    stream.write_all(b"behind a wall, and encrypted").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert_eq!(answer, "BEHIND A WALL, AND ENCRYPTED");
    serving.await??;
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
