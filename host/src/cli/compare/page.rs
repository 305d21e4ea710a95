//! The findings as one self-contained page: a chart for each figure, and a sentence below it.

use std::fmt::Write as _;

use bulkhead::compare::{Figure, Results, Spread, short, spread};
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::{Color as _, IntoFont as _, RGBColor};

use super::{Findings, model};

/// Pixels of a chart: its width, of labels, of bars, of a row, of the space above and below.
const WIDTH: i32 = 760;
const LABELS: i32 = 290;
const BARS: i32 = 360;
const ROW: i32 = 26;
const MARGIN: i32 = 6;

/// A colour for each placement; the sandbox stands out.
const COLOURS: [(&str, RGBColor); 3] = [
    ("wasm", RGBColor(0, 122, 110)),
    ("native", RGBColor(90, 110, 150)),
    ("kernel", RGBColor(150, 150, 150)),
];
const OTHERS: RGBColor = RGBColor(196, 140, 70);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;\
    color:#222}h2{margin-top:2.5rem;border-bottom:1px solid #ccc}h3{margin:1.6rem 0 .2rem;font-size:1rem}\
    p{margin:.2rem 0}svg{max-width:100%;height:auto}.note{color:#666;font-size:.9rem}.model{border-left:4px solid \
    #c48c46;padding-left:1rem}";

/// One bar: its name, value, and the lowest and highest of its values.
struct Bar {
    name: String,
    value: f64,
    spread: (f64, f64),
}

/// The page.
///
/// # Errors
/// What the drawing library says.
pub(super) fn page(findings: &Findings) -> anyhow::Result<String> {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>bulkhead compare</title>\
         <style>{STYLE}</style></head><body><h1>What does a wall around TCP cost?</h1><p class=\"note\">{}</p>\
         <p>The same TCP, the same applications, one run: <b>native</b> is linked in, without a wall; <b>wasm</b> runs \
         in the sandbox; <b>process</b> is a server process without privileges, over shared memory, as a microkernel has \
         it; <b>kernel</b> is the kernel's own TCP over ordinary sockets. Bars are medians, lines the lowest and highest \
         value. Ratios mean something on other machines; absolute figures do not.</p>\n",
        escaped(&findings.header())
    );
    for (title, results) in findings.sections() {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(title));
        for (figure, values) in results.figures() {
            let bars = bars(results, values);
            let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
            let _ = writeln!(
                out,
                "<h3>{}{}</h3>\n{}<p>{}</p>",
                escaped(&figure.name),
                escaped(&unit),
                chart(&bars)?,
                escaped(&sentence(figure, &bars))
            );
        }
    }
    let _ =
        writeln!(out, "<div class=\"model\"><h2>{}</h2><p>{}</p>", escaped(model::TITLE), model::ASSUMPTIONS);
    for (index, ways) in model::WAYS.iter().enumerate() {
        let of = |line: &model::Line| {
            let value = *line.rates.get(index)?;
            Some(Bar { name: line.name.clone(), value, spread: (value, value) })
        };
        let bars: Vec<Bar> = findings.model.iter().filter_map(of).collect();
        let _ = writeln!(out, "<h3>{ways} processors (model)</h3>\n{}", chart(&bars)?);
    }
    out.push_str(
        "<p>By the model one server for all is the bound that no further processor moves; shards, with a wall or without \
         one, grow with the machine.</p></div></body></html>\n",
    );
    Ok(out)
}

fn bars(results: &Results, values: &[Vec<f64>]) -> Vec<Bar> {
    let of = |(name, values): (&String, &Vec<f64>)| {
        let Spread { least, median, most } = spread(values)?;
        Some(Bar { name: name.clone(), value: median, spread: (least, most) })
    };
    results.columns().iter().zip(values).filter_map(of).collect()
}

/// What the chart shows, in words.
fn sentence(figure: &Figure, bars: &[Bar]) -> String {
    let direction = if figure.less_is_better { "Less is better." } else { "More is better." };
    let of = |name: &str| bars.iter().find(|bar| bar.name == name).map(|bar| bar.value);
    let processes = bars.iter().filter(|bar| bar.name.starts_with("process"));
    let better = |one: &&Bar, other: &&Bar| {
        let order = one.value.total_cmp(&other.value);
        if figure.less_is_better { order } else { order.reverse() }
    };
    let Some(wasm) = of("wasm") else {
        return format!(
            "{direction} What a thread takes to go elsewhere and come back, without any stack (processes: by pipes)."
        );
    };
    let mut parts = Vec::new();
    if let Some(native) = of("native").filter(|native| *native > 0.0) {
        parts.push(format!("{} times what it is natively", short(wasm / native)));
    }
    if let Some(best) = processes.min_by(better).filter(|best| best.value > 0.0) {
        let (ratio, name) = (short(wasm / best.value), &best.name);
        parts.push(format!("{ratio} times what it is in the best server process ({name})"));
    }
    if let Some(kernel) = of("kernel").filter(|kernel| *kernel > 0.0) {
        parts.push(format!("{} times the kernel's", short(wasm / kernel)));
    }
    if parts.is_empty() {
        return direction.to_owned();
    }
    format!("{direction} In the sandbox it is {}.", parts.join(", "))
}

/// Horizontal bars, as SVG.
fn chart(bars: &[Bar]) -> anyhow::Result<String> {
    let height = ROW * i32::try_from(bars.len())? + 2 * MARGIN;
    let most = bars.iter().map(|bar| bar.spread.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let at = |value: f64| LABELS + (value.max(0.0) / most * f64::from(BARS)) as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH.unsigned_abs(), height.unsigned_abs()))
            .into_drawing_area();
        for (row, bar) in (0..).zip(bars) {
            let top = MARGIN + ROW * row;
            let known = COLOURS.iter().find(|(name, _)| bar.name.starts_with(name));
            let colour = known.map_or(OTHERS, |(_, colour)| *colour);
            let font = ("sans-serif", 14).into_font();
            area.draw(&Text::new(bar.name.clone(), (0, top + 5), font.clone()))?;
            let corners = [(LABELS, top + 3), (at(bar.value).max(LABELS + 1), top + ROW - 5)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            let middle = top + (ROW - 2) / 2;
            let spread = vec![(at(bar.spread.0), middle), (at(bar.spread.1), middle)];
            area.draw(&PathElement::new(spread, RGBColor(30, 30, 30).stroke_width(1)))?;
            area.draw(&Text::new(short(bar.value), (at(bar.spread.1) + 8, top + 5), font))?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
