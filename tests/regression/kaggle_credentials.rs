//! Today's Kaggle token was not read (kaggle-cli#873, #1188): `~/.kaggle/access_token`, `~/.config/kaggle/kaggle.json`,
//! `KAGGLE_API_TOKEN` with the path of a file.

use crate::place::{Place, Said};
use crate::server::{Reply, Server};
use std::fs;

#[test]
fn tokens_are_read_where_kaggles_client_reads_them() {
    let basic = "Basic bWU6a2V5"; // printf me:key | base64
    for (file, text, vars, sent) in [
        (".kaggle/access_token", "KGAT_one\n", &[][..], "Bearer KGAT_one"),
        (".kaggle/access_token.txt", "KGAT_two\r\n", &[], "Bearer KGAT_two"),
        (
            ".config/kaggle/kaggle.json",
            "{\"username\":\"me\",\"key\":\"key\"}",
            &[],
            basic,
        ),
        (
            ".kaggle/kaggle.json",
            "{\"username\":\"me\",\"key\":\"key\"}",
            &[],
            basic,
        ),
        (
            "else/kaggle.json",
            "{\"username\":\"me\",\"key\":\"key\"}",
            &[("KAGGLE_CONFIG_DIR", "~/else")],
            basic,
        ),
        (
            "xdg/kaggle/kaggle.json",
            "{\"username\":\"me\",\"key\":\"key\"}",
            &[("XDG_CONFIG_HOME", "xdg")],
            basic,
        ),
        (
            "token",
            "KGAT_three\n",
            &[("KAGGLE_API_TOKEN", "token")],
            "Bearer KGAT_three",
        ),
        ("token", "", &[("KAGGLE_API_TOKEN", "KGAT_four")], "Bearer KGAT_four"),
    ] {
        let p = Place::new();
        let server = Server::start(|_| Reply::new(404));
        let path = p.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mut c = p.command(&["data", "fetch", "aptos2019", "--accept-terms"]);
        c.env("KAGGLE_API_ENDPOINT", server.url()).envs(vars.iter().copied());
        let a = Said::by(&mut c);
        let asked = server.asked();
        assert!(!asked.is_empty(), "{file}: {}", a.all());
        assert_eq!(asked[0].header("authorization"), Some(sent), "{file}");
        let secret = text.trim();
        assert!(secret.is_empty() || !a.all().contains(secret), "{file}: {}", a.all());
    }
}

#[test]
fn without_a_token_every_place_is_named() {
    let p = Place::new();
    let a = p.medft(&["data", "fetch", "aptos2019", "--accept-terms"]);
    assert_eq!(a.code, 2, "{}", a.all());
    for said in [
        "KAGGLE_API_TOKEN",
        "access_token",
        ".kaggle",
        ".config/kaggle",
        "https://www.kaggle.com/settings",
    ] {
        assert!(a.err.contains(said), "{said}: {}", a.err);
    }
}
