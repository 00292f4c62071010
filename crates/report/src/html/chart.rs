//! A chart as inline SVG. kuva draws the frame, the ticks, the lines and the points; where text goes is
//! decided here, so that no label covers another one.
//!
//! Colours are the page's variables (`var(--c1)`), so one drawing serves light, dark and paper.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuva::backend::svg::SvgBackend;
use kuva::plot::line::LineStyle;
use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::{Primitive, Scene, TextAnchor, render_multiple};
use kuva::render::theme::Theme;
use maud::{Markup, PreEscaped, html};

use self::axis::Range;
pub(super) use self::axis::{Axis, Scale};
use self::label::{Placer, apart, width_of};

mod axis;
mod label;

/// The size of text in charts, in pixels of the drawing.
const TEXT: u32 = 12;
/// The distance between the lines of text.
const LINE: f64 = 15.0;
/// Room for ticks on the left and at the foot, and for titles.
const LEFT: f64 = 62.0;
const TOP: f64 = 34.0;
const FOOT: f64 = 44.0;
/// The most room on the right, as a share of the width: longer labels are cut.
const RIGHT_SHARE: f64 = 0.36;
/// No chart shows more points than this; of those in one place, one is drawn.
const MOST_POINTS: usize = 1500;

/// How large a chart is drawn, in pixels where it is not scaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Half the page, and as wide as a telephone.
pub(super) const HALF: Size = Size { width: 440.0, height: 290.0 };
/// The whole page.
pub(super) const WHOLE: Size = Size { width: 900.0, height: 440.0 };
/// The same on a telephone.
pub(super) const NARROW: Size = Size { width: 440.0, height: 380.0 };

/// A point of a series.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// What is shown when the mouse rests on it.
    pub(super) title: String,
}

/// How points are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    None,
    Solid,
    Dashed,
}

/// How points are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    Dot,
    Ring,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// A colour of the page, such as `var(--c1)`.
    pub(super) color: String,
    pub(super) line: Line,
    pub(super) marker: Marker,
    /// Stands to the right of its last point.
    pub(super) label: Option<String>,
    pub(super) points: Vec<Point>,
}

/// Text at a point of a series.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) text: String,
}

/// A chart before it is drawn.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// Points that are named, the most important first.
    pub(super) labels: Vec<Label>,
}

/// Where the axes lie in the drawing.
struct Frame {
    size: Size,
    right: f64,
    x: Range,
    y: Range,
}

impl Frame {
    fn px(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (self.size.width - self.right - LEFT)
    }

    fn py(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.share(value)) * (self.size.height - FOOT - TOP)
    }
}

impl Chart {
    /// Whether there is anything to draw.
    pub(super) fn is_empty(&self) -> bool {
        !self.series.iter().any(|series| series.marker != Marker::None && self.seen(series) > 0)
    }

    fn seen(&self, series: &Series) -> usize {
        series.points.iter().filter(|point| self.usable(point)).count()
    }

    fn usable(&self, point: &Point) -> bool {
        self.x.usable(point.x) && self.y.usable(point.y)
    }

    /// The drawing, with `name` for those who cannot see it.
    pub(super) fn svg(&self, size: Size, name: &str) -> Markup {
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points);
            all.filter(|point| self.usable(point))
        };
        let longest = self.series.iter().filter_map(|series| series.label.as_deref()).map(width_of);
        let right = longest.fold(14.0, |most: f64, width| most.max(width + 20.0));
        let frame = Frame {
            size,
            right: right.min(size.width * RIGHT_SHARE),
            x: self.x.range(points().map(|point| point.x)),
            y: self.y.range(points().map(|point| point.y)),
        };
        let mut plots: Vec<Plot> = Vec::new();
        let mut drawn = Vec::new();
        for series in &self.series {
            self.plot(series, &frame, &mut plots, &mut drawn);
        }
        let mut scene = render_multiple(plots, self.layout(&frame));
        // Everything lies within the axes, and the numbers of kuva's clipping paths differ from run to run.
        scene.defs.clear();
        let clips = |e: &Primitive| matches!(e, Primitive::ClipStart { .. } | Primitive::ClipEnd);
        scene.elements.retain(|element| !clips(element));
        scene.has_tooltips = false;
        self.write(&mut scene, &frame, &drawn);
        let svg = SvgBackend::new().render_scene(&scene);
        let view = format!("0 0 {} {}", size.width, size.height);
        html! { svg.chart viewBox=(view) role="img" aria-label=(name) { (PreEscaped(svg)) } }
    }

    fn plot(
        &self,
        series: &Series,
        frame: &Frame,
        plots: &mut Vec<Plot>,
        drawn: &mut Vec<(f64, f64)>,
    ) {
        let at = |point: &Point| (self.x.at(point.x), self.y.at(point.y));
        let mut points: Vec<&Point> =
            series.points.iter().filter(|point| self.usable(point)).collect();
        if series.line != Line::None {
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let style =
                if series.line == Line::Solid { LineStyle::Solid } else { LineStyle::Dashed };
            let line = LinePlot::new()
                .with_data(points.iter().map(|point| at(point)))
                .with_color(series.color.as_str())
                .with_stroke_width(1.6)
                .with_line_style(style);
            plots.push(line.into());
        }
        if series.marker == Marker::None {
            return;
        }
        let points = thinned(&points, frame);
        drawn.extend(points.iter().map(|point| (frame.px(point.x), frame.py(point.y))));
        let opacity = if series.marker == Marker::Ring { 0.0 } else { 0.9 };
        let scatter = ScatterPlot::new()
            .with_data(points.iter().map(|point| at(point)))
            .with_color(series.color.as_str())
            .with_size(3.6)
            .with_marker_opacity(opacity)
            .with_marker_stroke_width(1.4)
            .with_tooltips()
            .with_tooltip_labels(points.iter().map(|point| point.title.clone()));
        plots.push(scatter.into());
    }

    fn layout(&self, frame: &Frame) -> Layout {
        let theme = Theme {
            background: "none".to_owned(),
            axis_color: "var(--axis)".to_owned(),
            tick_color: "var(--axis)".to_owned(),
            grid_color: "var(--grid)".to_owned(),
            text_color: "var(--muted)".to_owned(),
            ..Theme::light()
        };
        let format = |axis: &Axis| {
            let axis = axis.clone();
            TickFormat::Custom(Arc::new(move |value| axis.tick(value)))
        };
        let ticks = ((frame.size.width - frame.right - LEFT) / 80.0).max(3.0) as usize;
        let (x, y) = (&frame.x, &frame.y);
        let mut layout = Layout::new((x.low, x.high), (y.low, y.high))
            .with_width(frame.size.width)
            .with_height(frame.size.height)
            .with_force_margins(LEFT, frame.right)
            .with_force_margins_y(TOP, FOOT)
            .with_theme(theme)
            .with_tick_size(TEXT)
            .with_body_size(TEXT)
            .with_ticks(ticks)
            .with_axis_line_width(1.0)
            .with_tick_length(4.0)
            .with_x_tick_format(format(&self.x))
            .with_y_tick_format(format(&self.y))
            .with_x_axis_min(x.low)
            .with_x_axis_max(x.high)
            .with_y_axis_min(y.low)
            .with_y_axis_max(y.high);
        if let Some(step) = x.step(ticks) {
            layout = layout.with_x_tick_step(step);
        }
        if let Some(step) = y.step(6) {
            layout = layout.with_y_tick_step(step);
        }
        match (self.x.scale, self.y.scale) {
            (Scale::Log10, Scale::Log10) => layout.with_log_scale(),
            (Scale::Log10, _) => layout.with_log_x(),
            (_, Scale::Log10) => layout.with_log_y(),
            _ => layout,
        }
    }

    /// The titles of the axes and the labels.
    fn write(&self, scene: &mut Scene, frame: &Frame, drawn: &[(f64, f64)]) {
        let size = frame.size;
        let muted = "var(--muted)";
        let end = size.width - frame.right;
        scene.add(text(&label::cut(&self.y.title, end), 8.0, 16.0, TextAnchor::Start, muted));
        scene.add(text(
            &label::cut(&self.x.title, end),
            end,
            size.height - 8.0,
            TextAnchor::End,
            muted,
        ));
        let mut ends: Vec<(f64, &str, &str)> = Vec::new();
        for series in &self.series {
            let points = series.points.iter().filter(|point| self.usable(point));
            let last = points.max_by(|a, b| a.x.total_cmp(&b.x));
            if let (Some(label), Some(last)) = (&series.label, last) {
                ends.push((frame.py(last.y), label, &series.color));
            }
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = ends.iter().map(|(y, _, _)| *y).collect();
        let room = frame.right - 10.0;
        for (y, (_, label, color)) in
            apart(&wanted, LINE, (TOP, size.height - FOOT)).into_iter().zip(&ends)
        {
            scene.add(text(&label::cut(label, room), end + 8.0, y + 4.0, TextAnchor::Start, color));
        }
        let mut placer = Placer::new((LEFT, end), (TOP, size.height - FOOT), drawn);
        for label in &self.labels {
            if !(self.x.usable(label.x) && self.y.usable(label.y)) {
                continue;
            }
            if let Some(place) = placer.place(frame.px(label.x), frame.py(label.y), &label.text) {
                scene.add(text(&label.text, place.x, place.y, place.anchor, "var(--ink)"));
            }
        }
    }
}

fn text(content: &str, x: f64, y: f64, anchor: TextAnchor, color: &str) -> Primitive {
    Primitive::Text {
        x,
        y,
        content: content.to_owned(),
        size: TEXT,
        anchor,
        rotate: None,
        bold: false,
        color: Some(color.into()),
    }
}

/// Of points that would cover each other, the first.
fn thinned<'a>(points: &[&'a Point], frame: &Frame) -> Vec<&'a Point> {
    let mut cell = 3.0;
    loop {
        let mut taken = BTreeSet::new();
        let mut kept = points.to_vec();
        kept.retain(|point| {
            let place = (frame.px(point.x) / cell, frame.py(point.y) / cell);
            taken.insert((place.0 as i64, place.1 as i64))
        });
        if kept.len() <= MOST_POINTS {
            return kept;
        }
        cell *= 1.5;
    }
}
