//! Lines over time, with axes and units: the one place that knows the library which draws them.
//!
//! The library writes colours into its SVG; the ones here are stand-ins that the style sheet replaces
//! (`.plot [fill="#010101"]`), so that one drawing is right in the dark and in the light.

use plotters::prelude::*;

use super::marks::{Markup, escaped};

const SIZE: (u32, u32) = (480, 212);
/// Of axes and words.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Of the grid.
const GRID: RGBColor = RGBColor(2, 2, 2);
/// Between two lines, the outer one first.
const BANDS: [RGBColor; 2] = [RGBColor(6, 6, 6), RGBColor(7, 7, 7)];
/// Of the series.
const LINES: [RGBColor; 3] = [RGBColor(3, 3, 3), RGBColor(4, 4, 4), RGBColor(5, 5, 5)];

pub struct Plot {
    /// For those who do not see it.
    pub label: String,
    pub x: &'static str,
    pub y: &'static str,
    pub series: Vec<Series>,
}

pub struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// What lies between a low and a high line: x, low, high.
pub struct Band {
    pub name: &'static str,
    pub points: Vec<(f64, f64, f64)>,
}

/// Nothing where there is nothing to draw.
pub fn draw(plot: &Plot) -> Markup {
    banded(plot, &[])
}

/// The same with bands behind the lines, the widest first.
pub fn banded(plot: &Plot, bands: &[Band]) -> Markup {
    let mut svg = String::new();
    if fill(plot, bands, &mut svg).is_err() {
        return Markup::default();
    }
    // The library's head has fixed sizes; ours fits the page and says what it is.
    let Some(body) = svg.find('>').map(|end| &svg[end + 1..]) else {
        return Markup::default();
    };
    let legend = plot
        .series
        .iter()
        .enumerate()
        .map(|(n, series)| format!("<li class=\"line-{n}\">{}</li>", escaped(series.name)));
    let of_bands = bands
        .iter()
        .enumerate()
        .map(|(n, band)| format!("<li class=\"band-{n}\">{}</li>", escaped(band.name)));
    let legend = legend.chain(of_bands);
    let legend = match plot.series.len() + bands.len() {
        0 | 1 => String::new(),
        _ => format!("<ul class=\"legend\">{}</ul>", legend.collect::<String>()),
    };
    Markup(format!(
        "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{body}{legend}",
        SIZE.0,
        SIZE.1,
        escaped(&plot.label)
    ))
}

type Failed = Box<dyn std::error::Error>;

fn fill(plot: &Plot, bands: &[Band], svg: &mut String) -> Result<(), Failed> {
    let points = || {
        let of_bands = bands.iter().flat_map(|band| &band.points);
        let of_bands = of_bands.flat_map(|(x, low, high)| [(*x, *low), (*x, *high)]);
        let of_lines = plot.series.iter().flat_map(|series| &series.points);
        of_lines.copied().chain(of_bands)
    };
    let is_finite = points().all(|(x, y)| x.is_finite() && y.is_finite());
    if points().count() < 2 || !is_finite {
        return Err("nothing to draw".into());
    }
    let least = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let most = points().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
    let high = points().map(|(_, y)| y).fold(0.0, f64::max);
    // A line at zero has some air above it too.
    let high = if high > 0.0 { high * 1.15 } else { 1.0 };
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let words = ("sans-serif", 12).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&area)
        .margin(6)
        .margin_right(14)
        // Room for the larger words of small screens: an axis' name stands beyond its marks.
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d(least..most.max(least + 0.1), 0.0..high)?;
    let (across, up) = (decimals(most - least), decimals(high));
    chart
        .configure_mesh()
        .x_label_formatter(&|x| tick(*x, across))
        .y_label_formatter(&|y| tick(*y, up))
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(words.clone())
        .axis_desc_style(words)
        .x_labels(6)
        .y_labels(5)
        .x_desc(plot.x)
        .y_desc(plot.y)
        .draw()?;
    for (n, band) in bands.iter().enumerate() {
        let back = band.points.iter().rev().map(|(x, _, high)| (*x, *high));
        let around: Vec<(f64, f64)> = band
            .points
            .iter()
            .map(|(x, low, _)| (*x, *low))
            .chain(back)
            .collect();
        let colour = BANDS[n % BANDS.len()];
        chart.draw_series(std::iter::once(Polygon::new(around, colour.filled())))?;
    }
    for (n, series) in plot.series.iter().enumerate() {
        let colour = LINES[n % LINES.len()];
        chart.draw_series(LineSeries::new(
            series.points.iter().copied(),
            colour.stroke_width(2),
        ))?;
    }
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

/// Decimals that tell some five marks of an axis apart.
fn decimals(span: f64) -> usize {
    match span {
        span if span >= 5.0 => 0,
        span if span >= 0.5 => 1,
        span if span >= 0.05 => 2,
        _ => 3,
    }
}

fn tick(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // A zero that is a little less than zero has no sign.
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_an_axis_have_as_many_decimals_as_tell_them_apart() {
        let shown = |value, span| tick(value, decimals(span));
        assert_eq!(shown(-50.0, 60.0), "-50");
        assert_eq!(shown(-1e-15, 60.0), "0");
        assert_eq!(shown(1500.0, 1700.0), "1500");
        assert_eq!(shown(0.4, 0.6), "0.4");
        assert_eq!(shown(-0.02, 0.06), "-0.02");
    }

    #[test]
    fn a_plot_has_axes_units_and_no_style_of_its_own() {
        let plot = Plot {
            label: "Memory <b>".into(),
            x: "minutes",
            y: "MiB",
            series: vec![Series {
                name: "used",
                points: vec![(0.0, 1.0), (1.0, 3.0)],
            }],
        };
        let drawn = draw(&plot).0;
        assert!(
            drawn.contains("MiB") && drawn.contains("minutes"),
            "{drawn}"
        );
        assert!(
            !drawn.contains("style=") && !drawn.contains("<b>"),
            "{drawn}"
        );
        let band = Band {
            name: "80 %",
            points: vec![(0.0, 1.0, 3.0), (1.0, 2.0, 400.0)],
        };
        let drawn = banded(&plot, &[band]).0;
        assert!(
            drawn.contains("<polygon") && drawn.contains("#060606"),
            "{drawn}"
        );
        assert!(
            drawn.contains("400"),
            "the band is within the axes: {drawn}"
        );
        assert!(drawn.contains("band-0"), "{drawn}");
        let nothing = Plot {
            series: vec![],
            ..plot
        };
        assert!(draw(&nothing).0.is_empty());
    }
}
