//! The document: what was measured, as tables and charts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::figure::{Figure, Verdict, show_ratio};
use crate::results::Results;
use crate::scenes::Scene;

mod chart;

/// Where the document goes if not given.
pub const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");

/// Writes the document, and its charts into a folder of its name beside it.
pub fn write(results: &Results, document: &Path) -> Outcome<()> {
    let folder = document.with_extension("");
    fs::create_dir_all(&folder)?;
    let name = folder.file_name().ok_or("the document needs a name")?;
    let mut text = opening(results);
    for scene in Scene::all() {
        let figures = results.figures.iter();
        let figures: Vec<_> = figures.filter(|f| f.scene == scene.name()).collect();
        if figures.is_empty() {
            continue;
        }
        let chart = format!("{}.svg", scene.name());
        chart::draw(&folder.join(&chart), &figures)?;
        let link = format!("{}/{chart}", name.display());
        text.push_str(&section(*scene, &link, &figures));
    }
    fs::write(document, text)?;
    println!("\nwritten: {}", document.display());
    Ok(())
}

/// What stands before the scenes.
fn opening(results: &Results) -> String {
    let verdicts = results.figures.iter().filter_map(Figure::verdict);
    let (passed, missed): (Vec<_>, Vec<_>) = verdicts.partition(|v| *v == Verdict::Pass);
    let machine = &results.machine;
    let versions = results.versions.iter();
    let versions: Vec<_> = versions.map(|(name, v)| format!("{name} {v}")).collect();
    let mut text = format!(
        "# Benchmarks

The executors beside their peers, two workers each. Written by

```sh
cargo run --release -p peers -- report
```

The two of a pair take turns within one run, for several rounds, and who goes first changes with
each turn. The ratio, ours to the peer's, is the median of the rounds' own ratios, with the lowest
and the highest beside it. Only ratios are claims: the machine's speed drifts within minutes, and
with it the values that both had. Of times less is better, of rates more. A bar is what a ratio is
held against; where there is none, the figure is for information.

The charts show how many times better than the peer ours is, on a logarithmic scale: to the right
of 1 it is better, to the left worse. The thin line goes from the worst round to the best one, and
the upright mark is the bar: blue has passed it, orange has missed it, grey has none.

- Bars: {} passed, {} missed
- Machine: {}, {} cores, {}; load average at the start {:.2}{}
- Versions: {}
",
        passed.len(),
        missed.len(),
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.load,
        if machine.was_busy() {
            ": others used it too, which the figures show"
        } else {
            ""
        },
        versions.join(", "),
    );
    for (name, why) in &results.skipped {
        writeln!(text, "- Not measured: {name} ({why})").expect("strings take all");
    }
    if results.quick {
        text.push_str("- A quick run: it shows that everything works, and little else\n");
    }
    text
}

fn section(scene: Scene, chart: &str, figures: &[&Figure]) -> String {
    let name = scene.name();
    let mut text = format!(
        "\n## {name}\n\n{}.\n\n![{name}]({chart})\n\n\
         | measure | ours | peer | ours had | the peer had | ratio | rounds | bar | |\n\
         |---|---|---|--:|--:|--:|--:|---|---|\n",
        scene.about(),
    );
    for figure in figures {
        let (lowest, highest) = figure.spread();
        let cells = [
            figure.measure.clone(),
            figure.ours.clone(),
            figure.peer.clone(),
            figure.unit.show(figure.our_value()),
            figure.unit.show(figure.peer_value()),
            format!("**{}**", show_ratio(figure.ratio())),
            format!("{} – {}", show_ratio(lowest), show_ratio(highest)),
            figure.bar.map(|bar| bar.to_string()).unwrap_or_default(),
            figure.verdict().map(|v| v.to_string()).unwrap_or_default(),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).expect("strings take all");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::write;
    use crate::figure::{Bar, Figure, Unit};
    use crate::results::{Machine, Results};

    fn results() -> Results {
        let figure = |peer: &str, bar, ratio| Figure {
            scene: "echo".into(),
            measure: "echo of 1 KiB".into(),
            unit: Unit::PerSecond,
            ours: "processes".into(),
            peer: peer.into(),
            bar,
            rounds: vec![(ratio * 1000.0, 1000.0)],
        };
        Results {
            machine: Machine {
                processor: "an abacus".into(),
                cores: 2,
                kernel: "Linux 0.01".into(),
                load: 0.0,
            },
            versions: BTreeMap::from([("rayon".into(), "1.2.3".into())]),
            quick: false,
            skipped: BTreeMap::from([("Python loky".into(), "not there".into())]),
            figures: vec![
                figure("procspawn Pool", Some(Bar::AtLeast(5.0)), 4.0),
                figure("bare socketpair", None, 0.5),
            ],
        }
    }

    #[test]
    fn the_document_tells_all_and_links_its_charts() {
        let folder = std::env::temp_dir().join(format!("peers-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let document = folder.join("figures.md");
        write(&results(), &document).expect("written");
        let text = fs::read_to_string(&document).expect("text");
        let chart = fs::read_to_string(folder.join("figures/echo.svg")).expect("a chart");
        fs::remove_dir_all(&folder).expect("removed");
        for part in [
            "an abacus, 2 cores, Linux 0.01",
            "rayon 1.2.3",
            "Python loky (not there)",
            "0 passed, 1 missed",
            "](figures/echo.svg)",
            "| procspawn Pool | 4.00 k/s | 1.00 k/s | **4.00** | 4.00 – 4.00 | ≥ 5 | MISS |",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("## busy"), "a scene that was not measured");
        for part in ["procspawn Pool", "bare socketpair", "0.50"] {
            assert!(chart.contains(part), "{part} is missing in the chart");
        }
    }
}
