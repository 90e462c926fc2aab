//! Which charts there are, and what they show.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::executor::Where;
use crate::payload::Kind;
use crate::plot::{Line, Look, Picture};
use crate::row::{NAMES, Row, WORTH};

/// A chart an executor of what payloads cost in all, and one a payload of what that consists of.
pub fn draw_all(folder: &Path, rows: &[Row]) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let codecs = codecs(rows);
    for executor in Where::all() {
        let of_executor = || rows.iter().filter(|row| row.executor == *executor);
        let file = folder.join(format!("{}.svg", executor.name()));
        totals(*executor, &codecs, &of_executor().collect::<Vec<_>>()).draw(&file)?;
        if !executor.encodes() {
            continue;
        }
        for kind in Kind::all().iter().filter(|kind| has_sizes(**kind)) {
            let of_kind = of_executor().filter(|row| row.kind == *kind);
            let file = folder.join(format!("{}-{}.svg", executor.name(), kind.name()));
            parts(*executor, *kind, &codecs, &of_kind.collect::<Vec<_>>()).draw(&file)?;
        }
    }
    Ok(())
}

/// What each kind costs on that executor.
fn totals(executor: Where, codecs: &[&str], rows: &[&Row]) -> Picture {
    let mut lines = Vec::new();
    for (color, kind) in Kind::all().iter().enumerate() {
        let line = |codec: &str, look, name, scale: f64| {
            let of_codec = rows.iter().filter(|row| row.codec == codec);
            let points = of_codec.filter(|row| row.kind == *kind);
            let points = points.map(|row| (row.size, scale * row.times.total));
            Line::new(name, color, look, points.collect())
        };
        for (number, codec) in codecs.iter().enumerate() {
            let name = match codecs {
                [_] => kind.to_string(),
                _ => format!("{kind}, {codec}"),
            };
            lines.push(line(codec, Look::of(number), name, 1.0));
        }
        let codec = codecs.first().filter(|_| has_sizes(*kind));
        if let Some(codec) = codec {
            lines.push(line(codec, Look::Dotted, String::new(), WORTH));
        }
    }
    let mut notes = vec![
        (
            Some(Look::Dotted),
            "so long must a task last to spend".to_owned(),
        ),
        (None, "only a tenth of it on the way".to_owned()),
    ];
    if let [codec] = codecs {
        notes.push((None, format!("codec {codec}")));
    }
    Picture {
        title: format!("What a task costs beside its work: {executor}"),
        lines,
        notes,
    }
}

/// What the time of one kind on that executor consists of.
fn parts(executor: Where, kind: Kind, codecs: &[&str], rows: &[&Row]) -> Picture {
    let mut lines = Vec::new();
    for (number, codec) in codecs.iter().enumerate() {
        for (part, name) in NAMES.iter().enumerate() {
            let rows = rows.iter().filter(|row| row.codec == *codec);
            let points = rows.map(|row| (row.size, row.times.values()[part]));
            let name = if number == 0 {
                (*name).to_owned()
            } else {
                String::new()
            };
            lines.push(Line::new(name, part, Look::of(number), points.collect()));
        }
    }
    let codecs = codecs.iter().enumerate();
    Picture {
        title: format!("On the way: {kind}, {executor}"),
        lines,
        notes: codecs
            .map(|(number, codec)| (Some(Look::of(number)), format!("codec {codec}")))
            .collect(),
    }
}

fn has_sizes(kind: Kind) -> bool {
    kind.sizes().count() > 1
}

fn codecs(rows: &[Row]) -> Vec<&str> {
    let mut codecs: Vec<_> = rows.iter().map(|row| row.codec.as_str()).collect();
    codecs.sort_unstable();
    codecs.dedup();
    codecs
}
