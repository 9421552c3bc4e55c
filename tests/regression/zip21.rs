//! A PyTorch file whose top folder has a name of 21 characters could not be opened, one of 22 could
//! (facebookresearch/mae#3, pytorch/pytorch#72654 load such files). Also npz and archives that are imported.

use crate::place::Place;
use medft::data::npz::Npz;
use medft::fetch::archive::{Caps, unpack};
use std::fs;

/// A zip of stored files with the Zip64 records that torch always writes, `before` bytes in front.
fn zip(entries: &[(String, Vec<u8>)], before: usize) -> Vec<u8> {
    let (n2, n4) = (|n: usize| (n as u16).to_le_bytes(), |n: usize| (n as u32).to_le_bytes());
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let crc = crc32(data).to_le_bytes();
        let fixed = [
            &[0, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
            &crc,
            &n4(data.len()),
            &n4(data.len()),
            &n2(name.len()),
            &[0, 0],
        ]
        .concat();
        let at = out.len();
        out.extend([b"PK\x03\x04", &fixed[..], name.as_bytes(), data].concat());
        central.extend([b"PK\x01\x02\0\0", &fixed[..], &[0; 10], &n4(at), name.as_bytes()].concat());
    }
    let (start, at64) = (out.len(), (out.len() + central.len()) as u64);
    let n8 = |n: usize| (n as u64).to_le_bytes();
    let count = entries.len();
    out.extend(&central);
    out.extend(
        [
            b"PK\x06\x06",
            &n8(44)[..],
            &[45, 0, 45, 0],
            &[0; 8],
            &n8(count),
            &n8(count),
        ]
        .concat(),
    );
    out.extend([n8(central.len()), n8(start)].concat());
    out.extend([b"PK\x06\x07", &[0; 4][..], &at64.to_le_bytes(), &n4(1)].concat());
    out.extend([b"PK\x05\x06", &[0; 4][..], &[0xFF; 12], &[0, 0]].concat());
    [vec![b'#'; before], out].concat()
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| {
            if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 }
        })
    })
}

/// A .npy of `shape` and zeros.
fn npy(descr: &str, shape: &str, bytes: usize) -> Vec<u8> {
    let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (head.len() + 11) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    [
        b"\x93NUMPY\x01\0",
        &(head.len() as u16).to_le_bytes()[..],
        head.as_bytes(),
        &vec![0; bytes],
    ]
    .concat()
}

#[test]
fn npz_members_of_every_length_are_read_also_behind_other_bytes() {
    let p = Place::new();
    for length in 16..=24 {
        for before in [0, 76, 500] {
            let member = "m".repeat(length - 4);
            let bytes = zip(&[(format!("{member}.npy"), npy("|u1", "(2, 3, 3)", 18))], before);
            let path = p.path("x.npz");
            fs::write(&path, bytes).unwrap();
            let mut npz = open(&path).unwrap_or_else(|e| panic!("{length} {before}: {e}"));
            assert_eq!(npz.images(&member, 1).unwrap().len(), 2, "{length} {before}");
        }
    }
}

fn open(path: &std::path::Path) -> anyhow::Result<Npz> {
    Npz::open(&path.parent().unwrap().into(), path.file_name().unwrap().as_ref())
}

#[test]
fn archives_of_every_length_of_name_are_unpacked() {
    let p = Place::new();
    for length in 17..=25 {
        for before in [0, 76] {
            let name = "n".repeat(length);
            fs::write(p.path("a.zip"), zip(&[(name.clone(), b"data".to_vec())], before)).unwrap();
            let to = p.path(&format!("out-{length}-{before}"));
            unpack(&p.path("a.zip"), &to, Caps::default(), &|_| ())
                .unwrap_or_else(|e| panic!("{length} {before}: {e}"));
            assert_eq!(fs::read(to.join(name)).unwrap(), b"data");
        }
    }
}

/// A checkpoint of one tensor as torch.save writes it: `{"w": tensor of 2 float32}`.
#[test]
fn checkpoints_open_whatever_their_folder_is_called() {
    let pickle = b"\x80\x02}q\0X\x01\0\0\0wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\0\0\0storageq\x03ctorch\n\
        FloatStorage\nq\x04X\x01\0\0\0\x30q\x05X\x03\0\0\0cpuq\x06K\x02tq\x07QK\0K\x02\x85q\x08K\x01\x85q\x09\x89ccollections\n\
        OrderedDict\nq\n)Rq\x0btq\x0cRq\rs.";
    let p = Place::new();
    for name in [
        "mae_pretrain_vit_base",
        "deit_base_patch16_224",
        "mae_pretrain_vit_large",
        "archive",
    ] {
        for before in [0, 76] {
            let entries = [
                (format!("{name}/data.pkl"), pickle.to_vec()),
                (
                    format!("{name}/data/0"),
                    [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat(),
                ),
                (format!("{name}/version"), b"3\n".to_vec()),
            ];
            let path = p.path("x.pth");
            fs::write(&path, zip(&entries, before)).unwrap();
            let file = medft::model::pickle::PickleFile::open(&path, None);
            let file = file.unwrap_or_else(|e| panic!("{name} {before}: {e}"));
            assert_eq!(file.shape("w"), Some(&[2][..]), "{name}");
            let elements = file.elements("w").unwrap();
            assert_eq!(
                &elements[..],
                [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat(),
                "{name}"
            );
        }
    }
}
