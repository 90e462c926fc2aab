//! Thumbnails of the pictures in a folder, made by a decoder that crashes on one file and hangs on another.
//!
//! ```sh
//! cargo run --release --example thumbnails
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, process, str};

use concurrent_futures::{Executor, ProcessPoolExecutor};

/// Pixels along each side of a thumbnail.
const SIDE: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let folder = env::temp_dir().join(format!("pictures-{}", process::id()));
    draw_pictures(&folder)?;
    let pool = ProcessPoolExecutor::builder()
        .max_workers(2)
        .task_timeout(Duration::from_millis(300))
        .build()?;

    let mut pictures = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        pictures.push((name.into_owned(), path));
    }
    pictures.sort();
    for (name, thumbnail) in pool.map_keyed(thumbnail, pictures) {
        // The outer `Err` says what became of the task, the inner one is what the task returned.
        match thumbnail {
            Ok(Ok(path)) => println!("{name:<12} -> {}", path.display()),
            Ok(Err(words)) => println!("{name:<12} refused: {words}"),
            Err(error) => println!("{name:<12} {error}"),
        }
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// The task. What it returns has to travel: a path can, of an `io::Error` only the words can.
fn thumbnail(picture: PathBuf) -> Result<PathBuf, String> {
    write_thumbnail(&picture).map_err(|error| error.to_string())
}

fn write_thumbnail(picture: &Path) -> io::Result<PathBuf> {
    let file = fs::read(picture)?;
    let (width, height, pixels) = parse(&file).ok_or(io::ErrorKind::InvalidData)?;
    let mut thumbnail = format!("P5 {SIDE} {SIDE} 255\n").into_bytes();
    thumbnail.extend(shrink(width, height, pixels));
    let path = picture.with_extension("thumbnail.pgm");
    fs::write(&path, thumbnail)?;
    Ok(path)
}

/// Width, height, and a byte a pixel, of a picture in the format PGM.
fn parse(file: &[u8]) -> Option<(usize, usize, &[u8])> {
    let end = file.iter().position(|&byte| byte == b'\n')?;
    let header = str::from_utf8(&file[..end]).ok()?;
    let sizes = header.strip_prefix("P5 ")?.strip_suffix(" 255")?;
    let (width, height) = sizes.split_once(' ')?;
    Some((width.parse().ok()?, height.parse().ok()?, &file[end + 1..]))
}

/// Stands for a library in C: it trusts the header of the file, and never ends if the picture is smaller than its
/// thumbnail.
fn shrink(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    let across = (1..).find(|n| width / n == SIDE).unwrap_or(1);
    let down = (1..).find(|n| height / n == SIDE).unwrap_or(1);
    let places = (0..SIDE * SIDE).map(|n| (n / SIDE * down * width) + (n % SIDE * across));
    let pixel = |place| {
        // SAFETY: it is not! If the header claims more pixels than there are, this process dies of SIGSEGV.
        unsafe { *pixels.as_ptr().wrapping_add(place) }
    };
    places.map(pixel).collect()
}

/// Two pictures, and three files that are trouble.
fn draw_pictures(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let picture = |width: usize, height: usize, pixels: usize| {
        let mut file = format!("P5 {width} {height} 255\n").into_bytes();
        file.extend((0..pixels).map(|n| n as u8));
        file
    };
    fs::write(folder.join("beach.pgm"), picture(160, 128, 160 * 128))?;
    fs::write(folder.join("cut_off.pgm"), picture(40_000, 40_000, 1000))?;
    fs::write(folder.join("icon.pgm"), picture(8, 8, 8 * 8))?;
    fs::write(folder.join("notes.pgm"), "not a picture")?;
    fs::write(folder.join("portrait.pgm"), picture(48, 64, 48 * 64))
}
