//! Probe of a gateway on this machine, over http or https, for a container's health check.

use crate::net::tls::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Timeout for connecting, and for each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the first line of the response to a GET of `path`. Asks at the first of `addresses` that
/// accepts a connection, and tries http before https. Blocks; each step has a timeout of 5 s.
///
/// # Errors
/// If nothing listens or responds, or the server speaks neither http nor https.
pub fn first_line(addresses: &[SocketAddr], path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    match ask(connect(addresses)?, &request) {
        Ok(line) if line.starts_with("HTTP/") => return Ok(line),
        Err(error) if is_timeout(&error) => return Err(error),
        // A TLS server answers plain http with an alert, or closes the connection.
        Ok(_) | Err(_) => {}
    }
    let mut stream = connect(addresses)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::new(config()?), name).map_err(io::Error::other)?;
    ask(rustls::Stream::new(&mut tls, &mut stream), &request)
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut streams = addresses.iter().filter_map(|address| {
        let stream = TcpStream::connect_timeout(address, IO_TIMEOUT);
        stream.map_err(|error| last_error = error).ok()
    });
    let stream = streams.next();
    drop(streams);
    let stream = stream.ok_or(last_error)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

fn ask(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    BufReader::new(stream.take(256)).read_until(b'\n', &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn config() -> io::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider())))
        .with_no_client_auth())
}

/// Accepts any certificate. Only for a readiness probe on this machine: it sends no secret, and
/// plain http would prove no more. The certificate has the public name, which a probe does not use.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
