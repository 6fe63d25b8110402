//! What a dashboard is: rows of panels, each with its queries. Knows nothing of flows, and nothing of how Grafana writes it.

/// The columns of a dashboard.
pub(super) const COLUMNS: usize = 24;

/// A dashboard.
#[derive(Debug)]
pub(super) struct Dashboard {
    /// What it is known by, unique in a Grafana; at most 40 letters, digits, `-` and `_`.
    pub(super) uid: String,
    /// Its title.
    pub(super) title: String,
    /// What it is for.
    pub(super) description: String,
    /// What can be chosen beside the data source and the interval.
    pub(super) variables: Vec<Variable>,
    /// How often workers export, as a duration of Prometheus.
    pub(super) interval: String,
    /// The rows, from the top down.
    pub(super) rows: Vec<Row>,
}

/// What can be chosen above the panels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// Values of a label, several or all.
    Label {
        /// The name of the variable, and of the label.
        name: &'static str,
        /// Whose label it is.
        selector: String,
    },
    /// One of several numbers; the first one by default.
    Number {
        /// The name of the variable.
        name: &'static str,
        /// What it is for.
        label: &'static str,
        /// The numbers.
        choices: &'static [u32],
    },
}

/// A row: a title, and the panels below it.
#[derive(Debug)]
pub(super) struct Row {
    /// The title, unique in the dashboard.
    pub(super) title: String,
    /// The variable for each value of which the row is there once.
    pub(super) repeat: Option<&'static str>,
    /// The panels, each in its place.
    pub(super) panels: Vec<(Area, Panel)>,
}

impl Row {
    /// Puts panels beside one another as long as there is room, and then below.
    pub(super) fn new(title: &str, panels: Vec<Panel>) -> Self {
        let (mut x, mut y, mut height) = (0, 0, 0);
        let place = |panel: Panel| {
            if x + panel.width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            let area = Area { x, y, width: panel.width, height: panel.height };
            (x, height) = (x + panel.width, height.max(panel.height));
            (area, panel)
        };
        Self { title: title.to_owned(), repeat: None, panels: panels.into_iter().map(place).collect() }
    }

    /// Returns how high the panels are together.
    pub(super) fn height(&self) -> usize {
        self.panels.iter().map(|(area, _)| area.y + area.height).max().unwrap_or_default()
    }
}

/// The place of a panel, from the top left of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// How a panel shows what its queries return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// A line for each series.
    Lines,
    /// The same, one upon the other.
    Stack,
    /// The last number.
    Number,
    /// A row for each series, a column for each query.
    Table,
}

/// The unit of what a panel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A number of things.
    Count,
    /// Things in a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// A share: 1 is all.
    Share,
    /// Bytes.
    Bytes,
}

/// A panel.
#[derive(Debug)]
pub(super) struct Panel {
    /// The title, unique in its row.
    pub(super) title: String,
    /// What it shows, and when that is not what it seems.
    pub(super) description: String,
    /// How it shows it.
    pub(super) view: View,
    /// Of all queries that have none of their own.
    pub(super) unit: Unit,
    /// From which value on a number is red.
    pub(super) red_from: Option<f64>,
    /// Whether values may be below 0.
    pub(super) is_signed: bool,
    /// What it asks for.
    pub(super) queries: Vec<Query>,
    /// In columns.
    pub(super) width: usize,
    /// In Grafana's steps.
    pub(super) height: usize,
}

impl Panel {
    fn new(view: View, title: &str, unit: Unit, description: &str) -> Self {
        let (width, height) = match view {
            View::Lines | View::Stack => (8, 8),
            View::Number => (4, 4),
            View::Table => (24, 9),
        };
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            view,
            unit,
            red_from: None,
            is_signed: false,
            queries: Vec::new(),
            width,
            height,
        }
    }

    /// Makes a panel of lines.
    pub(super) fn lines(title: &str, unit: Unit, description: &str) -> Self {
        Self::new(View::Lines, title, unit, description)
    }

    /// Makes a panel of lines that add up.
    pub(super) fn stack(title: &str, unit: Unit, description: &str) -> Self {
        Self::new(View::Stack, title, unit, description)
    }

    /// Makes a panel of one number.
    pub(super) fn number(title: &str, unit: Unit, description: &str) -> Self {
        Self::new(View::Number, title, unit, description)
    }

    /// Makes a table.
    pub(super) fn table(title: &str, description: &str) -> Self {
        Self::new(View::Table, title, Unit::Count, description)
    }

    /// Makes it so high.
    pub(super) fn high(self, height: usize) -> Self {
        Self { height, ..self }
    }

    /// Says in its title which task it is about.
    pub(super) fn of_task(self, name: &str) -> Self {
        let (first, rest) = self.title.split_at(1);
        Self { title: format!("{name}: {}{rest}", first.to_lowercase()), ..self }
    }

    /// Gives it so many of the columns.
    pub(super) fn wide(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Makes it red from this value on.
    pub(super) fn red_from(self, value: f64) -> Self {
        Self { red_from: Some(value), ..self }
    }

    /// Shows what is below 0 too.
    pub(super) fn signed(self) -> Self {
        Self { is_signed: true, ..self }
    }

    /// Adds a query. Its legend may name labels, `{{flow}}`; in a table it is the title of the column.
    pub(super) fn query(mut self, expression: String, legend: &str) -> Self {
        self.queries.push(Query { expression, legend: legend.to_owned(), unit: None, has_exemplars: false });
        self
    }

    /// Adds a query whose values have another unit.
    pub(super) fn column(mut self, expression: String, title: &str, unit: Unit) -> Self {
        self = self.query(expression, title);
        if let Some(query) = self.queries.last_mut() {
            query.unit = Some(unit);
        }
        self
    }

    /// Adds a query of a histogram, whose exemplars are shown.
    pub(super) fn histogram(mut self, expression: String, legend: &str) -> Self {
        self = self.query(expression, legend);
        if let Some(query) = self.queries.last_mut() {
            query.has_exemplars = true;
        }
        self
    }
}

/// What a panel asks for.
#[derive(Debug)]
pub(super) struct Query {
    /// In PromQL.
    pub(super) expression: String,
    /// What its series are called.
    pub(super) legend: String,
    /// The unit of its values, if it is not the panel's.
    pub(super) unit: Option<Unit>,
    /// Whether exemplars are asked for too.
    pub(super) has_exemplars: bool,
}
