//! Calls the service of the tests with tonic, and prints what came of each call: `tonic-client URL`.
//!
//! The certificates to trust are in the file that `SSL_CERT_FILE` names.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a client that fails must say so and end")]
#![expect(clippy::disallowed_methods, reason = "clients are told by this variable whom to trust")]

use e2e::tonic_client::{Client, every_failure, every_kind, use_aws_lc};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("a URL");
    let authority = std::env::var("SSL_CERT_FILE").expect("SSL_CERT_FILE");
    let authority = std::fs::read(authority).expect("the file of SSL_CERT_FILE");
    use_aws_lc();
    let endpoint = Endpoint::from_shared(url.clone()).expect("a URL");
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let endpoint = if url.starts_with("https:") {
        endpoint.tls_config(trusting).expect("certificates")
    } else {
        endpoint
    };
    let mut client = Client::connect(&endpoint).await;
    println!("{:#}", every_kind(&mut client).await);
    println!("{:#}", every_failure(&mut client).await);
}
