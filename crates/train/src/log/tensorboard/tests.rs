//! What was written, decoded by a reader that shares nothing with the writer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// CRC-32C bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

fn unmasked(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap()).wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The whole records of a file, and how many bytes follow them.
fn records(mut bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut records = vec![];
    while bytes.len() >= 12 {
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(&bytes[8..12]), crc(&bytes[..8]));
        if bytes.len() < 16 + len {
            break;
        }
        assert_eq!(unmasked(&bytes[12 + len..16 + len]), crc(&bytes[12..12 + len]));
        records.push(bytes[12..12 + len].to_vec());
        bytes = &bytes[16 + len..];
    }
    (records, bytes.len())
}

/// Field numbers and contents of a message; varints as eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (own, rest) = bytes.split_at(len);
        *bytes = rest;
        own.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let len = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (own, rest) = bytes.split_at(len);
        fields.push((key >> 3, own.to_vec()));
        bytes = rest;
    }
    fields
}

/// The one field of this number.
fn field(message: &[u8], number: u64) -> Vec<u8> {
    let mut found = fields(message).into_iter().filter(|(other, _)| *other == number);
    let (_, contents) = found.next().unwrap();
    assert!(found.next().is_none(), "field {number} is there twice");
    contents
}

fn uint(message: &[u8], number: u64) -> u64 {
    u64::from_le_bytes(field(message, number).try_into().unwrap())
}

fn doubles(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect()
}

/// The value of an event with this step and tag.
fn value(event: &[u8], step: u64, tag: &str) -> Vec<u8> {
    assert_eq!(uint(event, 2), step);
    let value = field(&field(event, 5), 1);
    assert_eq!(field(&value, 1), tag.as_bytes());
    value
}

#[test]
fn every_kind_of_value_can_be_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let before = seconds();
    let mut board = TensorBoard::create(dir.path().join("new").join("run")).unwrap();
    board.scalar("loss/train", 0, 0.625).unwrap();
    board.scalar("loss/train", 1 << 40, f32::NAN).unwrap();
    board.histogram("weights", 300, &[0.5, -2.0, 0.5]).unwrap();
    board.image("digit", 127, [3, 1, 2], &[1, 2, 3, 4, 5, 6]).unwrap();
    board.image("grey", 128, [1, 3, 1], &[7, 8, 9]).unwrap();
    board.text("notes", 3, "größer").unwrap();
    // Nothing was flushed or closed.
    let (events, rest) = records(&fs::read(board.path()).unwrap());
    assert_eq!((events.len(), rest), (7, 0));
    for event in &events {
        let time = doubles(&field(event, 1))[0];
        assert!(before <= time && time <= seconds(), "{time}");
    }
    assert_eq!(field(&events[0], 3), b"brain.Event:2");

    let scalar = |event, step| {
        let bytes = field(&value(event, step, "loss/train"), 2);
        f32::from_le_bytes(bytes.try_into().unwrap())
    };
    assert_eq!(scalar(&events[1], 0), 0.625);
    assert!(scalar(&events[2], 1 << 40).is_nan());

    let histogram = field(&value(&events[3], 300, "weights"), 5);
    let numbers: Vec<f64> = (1..6).map(|number| doubles(&field(&histogram, number))[0]).collect();
    assert_eq!(numbers, [-2.0, 0.5, 3.0, -1.0, 4.5]);
    let (limits, buckets) = (doubles(&field(&histogram, 6)), doubles(&field(&histogram, 7)));
    assert_eq!(limits.len(), buckets.len());
    assert_eq!((buckets[1], buckets[buckets.len() - 1]), (1.0, 2.0));
    assert!(limits[0] <= -2.0 && limits[1] > -2.0);

    let picture = |event, step, tag, sides: [u64; 3]| {
        let image = field(&value(event, step, tag), 4);
        assert_eq!([1, 2, 3].map(|number| uint(&image, number)), sides);
        image::load_from_memory(&field(&image, 4)).unwrap()
    };
    assert_eq!(picture(&events[4], 127, "digit", [1, 2, 3]).as_bytes(), [1, 3, 5, 2, 4, 6]);
    assert_eq!(picture(&events[5], 128, "grey", [3, 1, 1]).as_bytes(), [7, 8, 9]);

    let text = value(&events[6], 3, "notes");
    let tensor = field(&text, 8);
    assert_eq!((uint(&tensor, 1), field(&tensor, 8)), (7, "größer".as_bytes().to_vec()));
    assert_eq!(uint(&field(&field(&tensor, 2), 2), 1), 1);
    assert_eq!(field(&field(&field(&text, 9), 1), 1), b"text");
}

#[test]
fn files_are_called_what_is_looked_for_and_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let boards = [(); 3].map(|()| TensorBoard::create(dir.path()).unwrap());
    let names = boards.each_ref().map(|board| board.path().file_name().unwrap().to_owned());
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    for name in names {
        let name = name.into_string().unwrap();
        let rest = name.strip_prefix("events.out.tfevents.").unwrap();
        let (seconds, rest) = rest.split_once('.').unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 1_500_000_000);
        assert!(rest.starts_with(&host), "{rest}");
    }
}

#[test]
fn a_file_cut_anywhere_is_read_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(dir.path()).unwrap();
    for step in 0..5 {
        board.scalar("x", step, step as f32).unwrap();
    }
    let whole = fs::read(board.path()).unwrap();
    let ends: Vec<usize> = (0..=whole.len()).filter(|&len| records(&whole[..len]).1 == 0).collect();
    assert_eq!((ends.len(), ends.last()), (7, Some(&whole.len())));
}

#[test]
fn what_has_no_picture_or_histogram_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(dir.path()).unwrap();
    let before = fs::read(board.path()).unwrap();
    let error = board.image("i", 0, [1, 2, 3], &[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "image \"i\": 5 bytes are no image of [1, 2, 3], with 1 or 3 channels");
    for (shape, len) in [([2, 1, 1], 2), ([0, 1, 1], 0), ([1, 0, 3], 0), ([1, usize::MAX, 2], 2)] {
        assert!(board.image("i", 0, shape, &vec![0; len]).is_err(), "{shape:?}");
    }
    let error = board.histogram("h", 0, &[1.0, f32::NAN]).unwrap_err().to_string();
    assert_eq!(error, "histogram \"h\": value 1 is NaN: all must be finite");
    assert!(board.histogram("h", 0, &[f32::INFINITY]).is_err());
    assert!(matches!(board.histogram("h", 0, &[]), Err(LogError::NoValues { .. })));
    assert_eq!(fs::read(board.path()).unwrap(), before);

    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = TensorBoard::create(blocked.join("run")).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}

/// What TensorBoard itself finds in a folder, a line for each record.
fn found(folder: &Path) -> Vec<String> {
    let python = std::env::var("SHADEGRAD_PYTHON").unwrap_or("python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tensorboard_reads.py");
    let output = std::process::Command::new(&python).arg(script).arg(folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python} with the package tensorboard is needed: {told}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs Python with the package tensorboard: see docs/testing.md"]
fn tensorboard_finds_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(dir.path()).unwrap();
    board.scalar("loss/train", 0, 2.5).unwrap();
    board.scalar("loss/train", 100_000, 0.125).unwrap();
    board.histogram("weights", 7, &[0.5, -2.0, 0.5, 0.0]).unwrap();
    board.image("digit", 127, [3, 2, 5], &(0..30).collect::<Vec<u8>>()).unwrap();
    board.text("notes", 3, "größer\n\n* a list").unwrap();
    let whole = fs::read(board.path()).unwrap();
    let png = field(&field(&field(&field(&records(&whole).0[4], 5), 1), 4), 4);
    let png: String = png.iter().map(|byte| format!("{byte:02x}")).collect();

    let all = found(dir.path());
    let expected = [
        r#"{"version": 2.0}"#.to_owned(),
        r#"["scalars", null, "loss/train", 0, 2.5]"#.to_owned(),
        r#"["scalars", null, "loss/train", 100000, 0.125]"#.to_owned(),
        all.iter().find(|line| line.contains("histograms")).unwrap().clone(),
        format!(r#"["images", null, "digit", 127, {{"width": 5, "height": 2, "png": "{png}"}}]"#),
        r#"["tensors", "text", "notes", 3, ["größer\n\n* a list"]]"#.to_owned(),
    ];
    assert_eq!(all, expected);
    let numbers = r#"["histograms", null, "weights", 7, {"min": -2.0, "max": 0.5, "num": 4.0, "sum": -1.0, "sum_squares": 4.5, "full": [[-"#;
    assert!(all[3].starts_with(numbers), "{}", all[3]);
    let counts = ["1.0], [1e-12, 1.0], [0.5", "2.0]]}]"];
    assert!(counts.iter().all(|part| all[3].contains(part)), "{}", all[3]);

    // Killed while it wrote the text: the rest is there.
    fs::write(board.path(), &whole[..whole.len() - 9]).unwrap();
    assert_eq!(found(dir.path()), expected[..5]);
}
