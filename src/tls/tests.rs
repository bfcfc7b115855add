//! Tests of the whole module: real handshakes in memory against what [`Tls`] serves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use super::*;
use crate::error::chain;

/// Believes everything: these tests look at what was chosen.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn gullible(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth()
}

/// A whole handshake in memory, and one round of what follows it (the tickets).
fn shake(
    server: Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// Which certificate a client gets that asks for `name`.
fn served(tls: &Tls, name: &str) -> CertificateDer<'static> {
    let client = Arc::new(gullible(rustls::ALL_VERSIONS));
    let (client, _) = shake(tls.acceptor_config(), &client, name).unwrap();
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

struct Pair {
    files: CertificateFiles,
    der: CertificateDer<'static>,
}

/// A self-signed pair of files `stem.crt` and `stem.key`.
fn pair(folder: &Path, stem: &str, names: &[&str]) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let files = CertificateFiles { cert: folder.join(format!("{stem}.crt")), key: folder.join(format!("{stem}.key")) };
    fs::write(&files.cert, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    Pair { files, der: certificate.der().clone() }
}

fn config(certificates: &[(&str, &Pair)]) -> Config {
    let mut config = Config::default();
    for (name, pair) in certificates {
        config.certificates.insert((*name).into(), pair.files.clone());
    }
    config
}

fn start(config: &Config, state: &Path) -> Tls {
    Tls::start(Prepared::new(config, state).unwrap()).unwrap()
}

#[test]
fn the_certificate_fits_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path(), "a", &["a.example"]);
    let wild = pair(dir.path(), "b", &["*.B.example", "b.example"]);
    let exact = pair(dir.path(), "c", &["exact.b.example"]);
    let tls = start(&config(&[("a", &first), ("b", &wild), ("c", &exact)]), dir.path());
    for (name, expected) in [
        ("a.example", &first),
        ("A.EXAMPLE", &first),
        ("b.example", &wild),
        ("www.b.example", &wild),
        ("WWW.b.Example", &wild),
        ("exact.b.example", &exact),
        ("two.labels.b.example", &first),
        ("unknown.example", &first),
        // No name is sent for an address.
        ("127.0.0.1", &first),
    ] {
        assert_eq!(served(&tls, name), expected.der, "{name}");
    }
    assert!(!dir.path().join("tls").exists(), "no local authority is made when it is not needed");
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let good = pair(dir.path(), "good", &["a.example"]);
    let other = pair(dir.path(), "other", &["b.example"]);
    let put = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let empty = put("empty", "nothing here\n");
    let torn = put("torn", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let garbage = put("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let locked = put("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let old = put(
        "old",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    );
    let bad_key = put("badkey", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let swapped = put("swapped", &(read(&other.files.cert) + &read(&good.files.cert)));
    let missing = dir.path().join("missing");
    let huge = put("huge", &"x".repeat((1 << 20) + 1));
    let (cert, key) = (good.files.cert.clone(), good.files.key.clone());
    for (cert, key, expected) in [
        (&missing, &key, vec!["cannot read", "missing", "check the path"]),
        (&dir.path().to_path_buf(), &key, vec!["cannot read", "not a folder"]),
        (&empty, &key, vec!["no certificate in", "empty"]),
        (&torn, &key, vec!["not a sound PEM file", "torn"]),
        (&garbage, &key, vec!["garbage", "cannot be understood"]),
        (&huge, &key, vec!["huge", "larger than 1 MiB"]),
        (&cert, &empty, vec!["no private key in", "empty"]),
        (&cert, &missing, vec!["cannot read", "missing"]),
        (&cert, &locked, vec!["locked is encrypted", "openssl pkey"]),
        (&cert, &old, vec!["old is encrypted"]),
        (&cert, &bad_key, vec!["badkey cannot be used"]),
        (&cert, &other.files.key, vec!["other.key does not belong to", "good.crt", "made with"]),
        (&swapped, &key, vec!["number 2"]),
    ] {
        let mut config = Config::default();
        config.certificates.insert("main".into(), CertificateFiles { cert: cert.clone(), key: key.clone() });
        let error = Prepared::new(&config, dir.path()).unwrap_err();
        let text = chain(&error).to_string();
        assert!(text.contains("tls.certificates.main"), "{text}");
        for part in expected {
            assert!(text.contains(part), "\"{part}\" is not in: {text}");
        }
    }
}

#[test]
fn a_bad_root_of_the_authority_is_a_configuration_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.acme.ca_file = dir.path().join("root.pem");
    Prepared::new(&config, dir.path()).unwrap();
    config.acme.domains = vec!["a.example".into()];
    for (text, expected) in [(None, "cannot read"), (Some("x"), "no certificate in")] {
        if let Some(text) = text {
            fs::write(&config.acme.ca_file, text).unwrap();
        }
        let error = chain(&Prepared::new(&config, dir.path()).unwrap_err()).to_string();
        assert!(error.contains("tls.acme.ca_file") && error.contains(expected), "{error}");
    }
}

#[test]
fn an_expired_certificate_still_serves() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.not_after = (SystemTime::now() - Duration::from_mins(1)).into();
    let path = dir.path().join("both.pem");
    fs::write(&path, key.serialize_pem() + &params.self_signed(&key).unwrap().pem()).unwrap();
    let mut config = Config::default();
    config.certificates.insert("main".into(), CertificateFiles { cert: path.clone(), key: path });
    let tls = start(&config, dir.path());
    assert!(tls.status()[0].not_after.unwrap() < SystemTime::now());
}

#[test]
fn changed_files_are_loaded_and_bad_ones_leave_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for folder in [&one, &two] {
        fs::create_dir(folder).unwrap();
    }
    let first = pair(&one, "site", &["a.example"]);
    let second = pair(&two, "site", &["a.example"]);
    // As certbot does: what is configured is a link that is pointed elsewhere.
    let live = dir.path().join("live");
    std::os::unix::fs::symlink(&one, &live).unwrap();
    let mut config = Config::default();
    config
        .certificates
        .insert("site".into(), CertificateFiles { cert: live.join("site.crt"), key: live.join("site.key") });
    let tls = start(&config, dir.path());
    let look = || {
        // Two looks agree before a change counts.
        tls.look(SystemTime::now());
        tls.look(SystemTime::now());
    };
    look();
    assert_eq!(served(&tls, "a.example"), first.der);

    fs::remove_file(&live).unwrap();
    std::os::unix::fs::symlink(&two, &live).unwrap();
    look();
    assert_eq!(served(&tls, "a.example"), second.der);

    fs::write(&second.files.cert, "broken").unwrap();
    look();
    assert_eq!(served(&tls, "a.example"), second.der);
    let error = tls.status()[0].error.clone().unwrap();
    assert!(error.contains("no certificate in") && error.contains("live/site.crt"), "{error}");

    fs::remove_file(&second.files.cert).unwrap();
    tls.reload_files();
    assert_eq!(served(&tls, "a.example"), second.der);
    assert!(tls.status()[0].error.as_ref().unwrap().contains("cannot read"));

    let third = pair(&two, "site", &["a.example"]);
    tls.reload_files();
    assert_eq!(served(&tls, "a.example"), third.der);
    assert_eq!(tls.status()[0].error, None);
}

#[test]
fn a_bad_reload_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path(), "a", &["a.example"]);
    let tls = start(&config(&[("a", &first)]), dir.path());
    let mut next = config(&[("a", &first)]);
    next.certificates.insert("b".into(), CertificateFiles { cert: "/nowhere".into(), key: "/nowhere".into() });
    assert!(Prepared::new(&next, dir.path()).is_err());
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = tls.swap(Prepared::new(&Config::default(), &blocked).unwrap()).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(served(&tls, "a.example"), first.der);
    assert_eq!(tls.status().len(), 1);
}

#[test]
fn the_local_authority_is_made_once_kept_private_and_trusted_for_local_names_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = Config::default();
    let prepared = Prepared::new(&config, &state).unwrap();
    assert!(!state.exists(), "preparing writes nothing");
    let tls = Tls::start(prepared).unwrap();
    let ca = tls.ca_path().unwrap();
    let first = fs::read(&ca).unwrap();
    assert_eq!(fs::metadata(state.join("tls")).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(state.join("tls")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    for name in ["localhost", "127.0.0.1", "::1"] {
        shake(tls.acceptor_config(), &client, name).unwrap();
    }
    assert!(shake(tls.acceptor_config(), &client, "example.org").is_err());
    let status = tls.status();
    assert_eq!((status.len(), &status[0].source), (1, &Source::SelfSigned));
    let life = status[0].not_after.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(life < Duration::from_hours(397 * 24) && life > Duration::from_hours(300 * 24));

    // Again: the same. Another local name: another certificate, the same authority.
    let before = served(&tls, "localhost");
    assert_eq!(served(&start(&config, &state), "localhost"), before);
    let mut other = config.clone();
    other.self_signed.names.push("box.lan".into());
    let tls = start(&other, &state);
    assert_ne!(served(&tls, "localhost"), before);
    assert_eq!(fs::read(&ca).unwrap(), first);
    shake(tls.acceptor_config(), &client, "box.lan").unwrap();
    // A name that the authority may not sign for needs another authority.
    other.self_signed.names.push("staging.example.org".into());
    let tls = start(&other, &state);
    assert_ne!(fs::read(&ca).unwrap(), first);
    // 30 days before its end, a running server makes it anew.
    let before = served(&tls, "localhost");
    tls.look(SystemTime::now());
    assert_eq!(served(&tls, "localhost"), before);
    tls.look(SystemTime::now() + Duration::from_hours(370 * 24));
    assert_ne!(served(&tls, "localhost"), before);
}

#[test]
fn clients_resume_and_do_so_across_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path(), "a", &["a.example"]);
    let config = config(&[("a", &first)]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = start(&config, dir.path());
        let client = Arc::new(gullible(&[version]));
        let kind = |tls: &Tls| shake(tls.acceptor_config(), &client, "a.example").unwrap().1.handshake_kind();
        assert_ne!(kind(&tls), Some(HandshakeKind::Resumed));
        assert_eq!(kind(&tls), Some(HandshakeKind::Resumed), "{version:?}");
        tls.swap(Prepared::new(&config, dir.path()).unwrap()).unwrap();
        assert_eq!(kind(&tls), Some(HandshakeKind::Resumed), "{version:?} across a swap");
    }
}

#[test]
fn versions_protocols_and_key_exchange_are_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path(), "a", &["a.example"]);
    let mut config = config(&[("a", &first)]);
    config.min_version = MinVersion::Tls13;
    let tls = start(&config, dir.path());
    let old = Arc::new(gullible(&[&rustls::version::TLS12]));
    assert!(shake(tls.acceptor_config(), &old, "a.example").is_err());
    let offer = |protocols: &[&[u8]]| {
        let mut client = gullible(rustls::ALL_VERSIONS);
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        shake(tls.acceptor_config(), &Arc::new(client), "a.example")
    };
    let agreed = |protocols: &[&[u8]]| offer(protocols).unwrap().1.alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(agreed(&[b"http/1.1", b"h2"]), Some(b"h2".to_vec()));
    assert_eq!(agreed(&[b"http/1.1"]), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[]), None);
    assert_eq!(agreed(&[b"acme-tls/1", b"h2"]), Some(b"h2".to_vec()));
    assert!(offer(&[b"acme-tls/1"]).is_err(), "nothing to validate, nothing served");
    assert!(offer(&[b"spdy/3"]).is_err());
    let (_, server) = offer(&[b"h2"]).unwrap();
    assert_eq!(
        server.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
        Some(rustls::NamedGroup::X25519MLKEM768)
    );
}

#[test]
fn an_authority_that_was_never_asked_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.acme.domains = vec!["a.example".into()];
    config.acme.directory = "https://127.0.0.1:1/dir".into();
    let tls = start(&config, dir.path());
    let status = tls.status();
    assert_eq!(status.iter().map(|line| line.source.clone()).collect::<Vec<_>>(), [Source::Acme, Source::SelfSigned]);
    assert_eq!(status[0].not_after, None);
    served(&tls, "a.example");
    assert_eq!(tls.http01("token"), None);
}
