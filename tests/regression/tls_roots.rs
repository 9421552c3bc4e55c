//! A certificate authority of one's own (company, hospital) was trusted from SSL_CERT_FILE alone, and an SSL_CERT_FILE that is
//! gone (a deleted conda environment) stopped work that needs no network (ureq#1181, huggingface_hub#4487).

use crate::place::{Place, Said};
use crate::server::sha;
use crate::{has, skipped};
use std::fs;
use std::process::{Child, Command, Stdio};

/// A server of `openssl`, stopped with the test.
struct Secure(Child, u16);

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes an authority and a server's certificate, and serves the files of the place.
fn serve(p: &Place) -> Secure {
    let run = |line: &str| {
        let done = Command::new("sh")
            .args(["-c", line])
            .current_dir(p.path(""))
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    run("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem");
    run("openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout srv.key -out srv.csr");
    run(
        "printf 'subjectAltName=DNS:localhost' > ext; openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
         -days 2 -extfile ext -out srv.pem",
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let child = Command::new("openssl")
        .args([
            "s_server",
            "-WWW",
            "-cert",
            "srv.pem",
            "-key",
            "srv.key",
            "-quiet",
            "-accept",
            &port.to_string(),
        ])
        .current_dir(p.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let secure = Secure(child, port);
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return secure;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("openssl does not serve");
}

#[test]
fn ones_own_authority_is_trusted_wherever_it_is_named() {
    if !has("openssl") {
        return skipped("there is no openssl to make certificates");
    }
    let p = Place::new().set("MEDFT_HTTP_BACKOFF_MS", "5");
    let content: Vec<u8> = (0..3000u32).map(|i| (i * 7) as u8).collect();
    fs::write(p.path("toy.bin"), &content).unwrap();
    let server = serve(&p);
    fs::create_dir_all(p.path("manifests/weights")).unwrap();
    let pin = format!(
        "schema = 1\nname = \"toy\"\nbackbone = \"dinov2-b\"\nrank = 1\nfile = \"toy.bin\"\nformat = \"safetensors\"\nlayout = \
         \"hub\"\nlicence = \"t\"\nconfidence = \"high\"\nurl = \"https://localhost:{}/toy.bin\"\nsize = 3000\nsha256 = \
         \"{}\"\n[source]\nlayout = \"t\"\nsize = \"t\"\nsha256 = \"t\"\n",
        server.1,
        sha(&content)
    );
    fs::write(p.path("manifests/weights/toy.toml"), pin).unwrap();
    fs::create_dir(p.path("certs")).unwrap();
    fs::copy(p.path("ca.pem"), p.path("certs/company.pem")).unwrap();
    let fetch = |vars: &[(&str, &str)]| {
        let mut c = p.command(&["weights", "fetch", "dinov2-b"]);
        c.env("MEDFT_MIRROR", p.path("manifests"));
        Said::by(c.envs(vars.iter().copied()))
    };
    let here = p.path("weights/toy/toy.bin");
    // Nobody vouches for it: the system's store is used and named.
    let a = fetch(&[]);
    assert_eq!(a.code, 1, "{}", a.all());
    assert!(
        a.err.contains("certificate") && a.err.contains("the system's store"),
        "{}",
        a.err
    );
    for vars in [
        &[("SSL_CERT_FILE", "ca.pem")][..],
        &[("SSL_CERT_DIR", "certs")],
        &[("SSL_CERT_DIR", "nowhere:certs")],
        &[("REQUESTS_CA_BUNDLE", "ca.pem")],
        &[("REQUESTS_CA_BUNDLE", "certs")],
        &[("CURL_CA_BUNDLE", "ca.pem")],
        &[("SSL_CERT_FILE", "gone.pem"), ("REQUESTS_CA_BUNDLE", "ca.pem")],
    ] {
        let _ = fs::remove_file(&here);
        let a = fetch(vars);
        assert_eq!(a.code, 0, "{vars:?}: {}", a.all());
        assert_eq!(fs::read(&here).unwrap(), content);
        let gone = vars.iter().any(|v| v.1.contains("gone") || v.1.contains("nowhere"));
        assert_eq!(
            a.err.contains("which is not there; it is left out"),
            gone,
            "{vars:?}: {}",
            a.err
        );
    }
    // What is here needs no network and no certificates.
    let a = fetch(&[("SSL_CERT_FILE", "gone.pem")]);
    assert!(a.code == 0 && a.out.contains("already here"), "{}", a.all());
    // A variable that names no certificates was meant to restrict: it is an error, when it is needed.
    fs::remove_file(&here).unwrap();
    let a = fetch(&[("SSL_CERT_FILE", "ext")]);
    assert!(a.code == 2 && a.err.contains("SSL_CERT_FILE=ext"), "{}", a.all());
}
