//! The cloud behind TLS: an authority of the test's own, certificates that are wrong in every way,
//! and a door that shows one of them and carries the bytes to the simulated cloud.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority that is in nobody's store.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Paper(CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(2200, 1, 1));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// For this name, from the first of January of one year to that of another.
    pub fn signs(&self, name: &str, from: i32, until: i32) -> Paper {
        let (params, key) = request(name, from, until);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Paper(certificate.der().clone(), private(&key))
    }
}

/// A certificate that vouches for itself.
pub fn self_signed(name: &str, from: i32, until: i32) -> Paper {
    let (params, key) = request(name, from, until);
    Paper(params.self_signed(&key).unwrap().der().clone(), private(&key))
}

fn request(name: &str, from: i32, until: i32) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    (params, KeyPair::generate().unwrap())
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn acceptor(paper: Paper) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![paper.0], paper.1).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A TLS door before a plain server. It closes with the runtime.
pub struct Front {
    pub port: u16,
    shown: Arc<Mutex<TlsAcceptor>>,
}

impl Front {
    pub async fn open(at: SocketAddr, to: SocketAddr, paper: Paper) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = Arc::new(Mutex::new(acceptor(paper)));
        let now = Arc::clone(&shown);
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                let acceptor = now.lock().unwrap().clone();
                tokio::spawn(async move {
                    // A client that does not trust us goes away: that is what is tested.
                    let (Ok(mut outside), Ok(mut inside)) =
                        (acceptor.accept(outside).await, TcpStream::connect(to).await)
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { port, shown }
    }

    /// Shows another certificate from the next connection on.
    pub fn show(&self, paper: Paper) {
        *self.shown.lock().unwrap() = acceptor(paper);
    }
}
