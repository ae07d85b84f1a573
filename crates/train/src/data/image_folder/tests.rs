//! Folders of small images that the test writes, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use image::{GrayImage, Luma, Rgb, RgbImage};

use super::*;

fn put(dir: &Path, name: &str, image: impl Into<DynamicImage>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// Three classes; the second has a folder of its own, and there is all that must be passed over.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let plain = |colour| RgbImage::from_pixel(5, 3, Rgb(colour));
    put(at, "cat/b.png", plain([10, 20, 30]));
    put(at, "cat/a.jpg", plain([200, 100, 50]));
    put(at, "dog/ear/1.bmp", plain([1, 2, 3]));
    put(at, "dog/z.ppm", plain([4, 5, 6]));
    put(at, "ant/grey.png", GrayImage::from_pixel(3, 7, Luma([77])));
    put(at, "loose.png", plain([0; 3]));
    put(at, ".hidden/x.png", plain([0; 3]));
    fs::write(at.join("cat/._b.png"), b"left by a system").unwrap();
    fs::write(at.join("cat/notes.txt"), b"no image").unwrap();
    dir
}

#[test]
fn folders_are_classes_in_the_order_of_names() {
    let dir = folder();
    let (images, classes) = ImageFolder::new(2, 3, Colour::Rgb).read(dir.path()).unwrap();
    assert_eq!(classes, ["ant", "cat", "dog"]);
    assert_eq!((images.shape(), images.classes), ([3, 2, 3], 3));
    assert_eq!(images.labels, [0, 1, 1, 2, 2]);
    let planes = |colour: [u8; 3]| colour.map(|value| [value; 6]).concat();
    assert_eq!(images.image(0), planes([77; 3]));
    for (found, sent) in images.image(1).iter().zip(planes([200, 100, 50])) {
        assert!(found.abs_diff(sent) <= 3, "JPEG: {found}, not {sent}");
    }
    assert_eq!(images.image(2), planes([10, 20, 30]));
    assert_eq!(images.image(3), planes([1, 2, 3]), "dog/ear/1.bmp stands before dog/z.ppm");
    assert_eq!(images.image(4), planes([4, 5, 6]));
}

#[test]
fn pixels_keep_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let image =
        RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, 10 + y as u8, (20 + x * 2 + y) as u8]));
    put(dir.path(), "one/x.png", image);
    let (same, _) = ImageFolder::new(2, 3, Colour::Rgb).read(dir.path()).unwrap();
    let planes = [[0, 1, 2, 0, 1, 2], [10, 10, 10, 11, 11, 11], [20, 22, 24, 21, 23, 25]];
    assert_eq!(same.pixels, planes.concat());

    let stripes = GrayImage::from_fn(8, 4, |x, _| Luma([if x < 4 { 0 } else { 200 }]));
    put(dir.path(), "one/x.png", stripes);
    let (small, _) = ImageFolder::new(1, 2, Colour::Grey).read(dir.path()).unwrap();
    assert_eq!(small.shape(), [1, 1, 2]);
    let [left, right] = small.pixels[..] else { panic!("{:?}", small.pixels) };
    assert!(left < 50 && right > 150, "shrunk to {left}, {right}");
}

#[test]
fn contents_count_and_not_names() {
    let dir = folder();
    fs::rename(dir.path().join("cat/b.png"), dir.path().join("cat/b.jpeg")).unwrap();
    assert_eq!(ImageFolder::new(4, 4, Colour::Grey).read(dir.path()).unwrap().0.len(), 5);
}

#[test]
fn damaged_images_are_refused_by_name() {
    let dir = folder();
    let reader = ImageFolder::new(4, 4, Colour::Rgb);
    for name in ["cat/b.png", "cat/a.jpg", "dog/z.ppm"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for len in [0, 1, whole.len() / 2] {
            fs::write(&path, &whole[..len]).unwrap();
            let error = reader.read(dir.path()).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{len} bytes: {error}");
        }
        fs::write(&path, whole).unwrap();
    }
    // A header that promises more than there is must not be believed.
    let path = dir.path().join("dog/z.ppm");
    fs::write(&path, b"P6\n2000000000 2000000000\n255\nabc").unwrap();
    let error = reader.read(dir.path()).unwrap_err();
    assert!(matches!(error, DataError::Image { reason: ImageFault::Decode(_), .. }), "{error}");
    fs::write(&path, b"<svg/>").unwrap();
    assert!(matches!(
        reader.read(dir.path()),
        Err(DataError::Image { reason: ImageFault::Decode(_), .. })
    ));
}

#[test]
fn images_that_end_early_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let busy = RgbImage::from_fn(67, 53, |x, y| Rgb([x * y, x * x + y, x ^ y].map(|v| v as u8)));
    for name in ["one/x.jpg", "one/x.png", "one/x.bmp", "one/x.ppm"] {
        let path = dir.path().join(name);
        put(dir.path(), name, busy.clone());
        let whole = fs::read(&path).unwrap();
        let reader = ImageFolder::new(4, 4, Colour::Rgb);
        reader.read(dir.path()).unwrap();
        for len in [whole.len() / 2, whole.len() * 9 / 10, whole.len() - 20] {
            fs::write(&path, &whole[..len]).unwrap();
            let result = reader.read(dir.path());
            assert!(result.is_err(), "{len} of {} bytes of {name} were taken", whole.len());
        }
        // What follows the end is no part of the image.
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        reader.read(dir.path()).unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_end_of_a_thumbnail_is_not_that_of_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one/x.jpg");
    put(dir.path(), "one/x.jpg", RgbImage::from_fn(67, 53, |x, y| Rgb([(x * y) as u8; 3])));
    let plain = fs::read(&path).unwrap();
    // A segment of an application, and fill bytes before the next marker.
    let segment = b"\xff\xe1\x00\x06\xff\xd8\xff\xd9\xff\xff";
    let whole = [&plain[..2], segment, &plain[2..]].concat();
    assert!(jpeg_ends(&whole) && !jpeg_ends(&whole[..whole.len() - 20]));
    assert!(!jpeg_ends(&[]) && !jpeg_ends(&whole[..10]));
}

#[test]
fn other_formats_and_empty_classes_are_refused() {
    let dir = folder();
    let reader = ImageFolder::new(4, 4, Colour::Rgb);
    let path = dir.path().join("cat/c.webp");
    fs::write(&path, b"RIFF").unwrap();
    let error = reader.read(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: found WebP, expected PNG, JPEG, BMP or PNM", path.display()));
    fs::remove_file(path).unwrap();

    let empty = dir.path().join("bee");
    fs::create_dir(&empty).unwrap();
    let error = reader.read(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: a class without images", empty.display()));
    let error = reader.read(&empty).unwrap_err();
    assert!(matches!(error, DataError::NoClasses { .. }), "{error}");
}

#[test]
fn senseless_sizes_are_refused() {
    let dir = folder();
    let refused = |height, width| {
        ImageFolder::new(height, width, Colour::Rgb).read(dir.path()).unwrap_err().to_string()
    };
    let error = refused(0, 7);
    assert!(error.starts_with("the size of images is 0 x 7: it must be at least one"), "{error}");
    assert!(refused(1 << 31, 1 << 31).contains("[5, 3, 2147483648, 2147483648]"));
    // Files that are left where they are have no room for one of them.
    let (files, _) = ImageFolder::new(1 << 31, 1 << 31, Colour::Rgb).files(dir.path()).unwrap();
    for error in [files.image(0).unwrap_err(), files.statistics().unwrap_err()] {
        assert!(error.to_string().contains("[1, 3, 2147483648, 2147483648]"), "{error}");
    }
}
