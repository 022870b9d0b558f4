//! How the values of options are read: numbers with their limits, names out of a list. What is wrong is said with what would be right.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use ringtree::plan::Algorithm;
use ringtree::{Collective, DataType, Reduction, Transport};
use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Worlds on a command line have no more ranks than this.
pub(crate) const MOST_RANKS: u32 = 4096;

/// Reads a whole number within limits.
pub(crate) fn whole<T>(limits: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: std::str::FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| limits.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", limits.start(), limits.end()))
    }
}

/// Reads a whole number that has no upper limit.
pub(crate) fn at_least<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: std::str::FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or_else(|| format!("write a whole number, {least} or more"))
    }
}

/// How many ranks.
pub(crate) fn ranks(text: &str) -> Result<u32, String> {
    whole(1..=MOST_RANKS)(text)
}

/// From a word to what it names.
type Read<T> = dyn Fn(&str) -> Option<T> + Send + Sync;

/// Reads one of the names of a list, and whatever else the reader takes for one of them. Who writes something similar is told so.
#[derive(Clone)]
pub(crate) struct Named<T> {
    names: Vec<&'static str>,
    read: Arc<Read<T>>,
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Named<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let found = value.to_str().and_then(|text| (self.read)(text));
        // Whatever the reader does not know is none of the names either; clap says so, lists them, and knows which is similar.
        let refusal = || PossibleValuesParser::new(&self.names).parse_ref(command, arg, value).err();
        found.ok_or_else(|| refusal().unwrap_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidValue)))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names.iter().map(PossibleValue::new)))
    }
}

/// One of a list of things with names.
pub(crate) fn named<T: Copy + 'static>(
    all: &[T],
    name: fn(T) -> &'static str,
    read: fn(&str) -> Option<T>,
) -> Named<T> {
    Named { names: all.iter().copied().map(name).collect(), read: Arc::new(read) }
}

/// One of the list, or the word `all`, which stands for every one of them.
fn named_or_all<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    read: fn(&str) -> Option<T>,
) -> Named<Many<T>> {
    let many = move |text: &str| if text == "all" { Some(Many(all.to_vec())) } else { Some(Many(vec![read(text)?])) };
    Named { names: all.iter().copied().map(name).chain(["all"]).collect(), read: Arc::new(many) }
}

/// One or all of something.
#[derive(Clone, Debug)]
pub(crate) struct Many<T>(pub(crate) Vec<T>);

pub(crate) fn collective() -> Named<Collective> {
    named(&Collective::ALL, Collective::name, |text| {
        let wanted = if text == "all_to_all" { "alltoall" } else { text };
        Collective::ALL.into_iter().find(|collective| collective.name() == wanted)
    })
}

pub(crate) fn algorithm() -> Named<Algorithm> {
    named(&Algorithm::ALL, Algorithm::name, Algorithm::from_name)
}

/// What is asked for: an algorithm, or `auto`, with which the library chooses whatever the environment says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish(pub(crate) Option<Algorithm>);

impl Wish {
    pub(crate) fn name(self) -> &'static str {
        self.0.map_or("auto", Algorithm::name)
    }
}

pub(crate) fn algorithm_or_auto() -> Named<Wish> {
    let names = Algorithm::ALL.map(Algorithm::name).into_iter().chain(["auto"]).collect();
    let read =
        |text: &str| if text == "auto" { Some(Wish(None)) } else { Algorithm::from_name(text).map(|a| Wish(Some(a))) };
    Named { names, read: Arc::new(read) }
}

pub(crate) fn dtype() -> Named<DataType> {
    named(&DataType::ALL, DataType::name, DataType::from_name)
}

pub(crate) fn dtypes() -> Named<Many<DataType>> {
    named_or_all(&DataType::ALL, DataType::name, DataType::from_name)
}

pub(crate) fn reduction() -> Named<Reduction> {
    named(&Reduction::ALL, Reduction::name, Reduction::from_name)
}

pub(crate) fn reductions() -> Named<Many<Reduction>> {
    named_or_all(&Reduction::ALL, Reduction::name, Reduction::from_name)
}

pub(crate) fn transport() -> Named<Transport> {
    named(&Transport::ALL, Transport::name, |text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Clone + Send + Sync + 'static>(parser: &Named<T>, text: &str) -> String {
        let command = Command::new("x").arg(Arg::new("thing").long("thing"));
        match parser.parse_ref(&command, None, OsStr::new(text)) {
            Ok(_) => panic!("'{text}' was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn numbers_outside_of_their_limits_are_refused_with_the_limits() {
        let read = whole(1..=9u32);
        assert_eq!((read("1"), read("9")), (Ok(1), Ok(9)));
        for text in ["0", "10", "x", "", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(read(text).unwrap_err(), "write a whole number from 1 to 9", "{text}");
        }
    }

    #[test]
    fn a_name_that_is_similar_is_suggested() {
        let message = refused(&collective(), "all_reduc");
        assert!(message.contains("similar") && message.contains("'all_reduce'"), "{message}");
        assert!(refused(&dtypes(), "f31").contains("f32"));
        assert!(refused(&algorithm_or_auto(), "rinng").contains("'ring'"));
    }

    #[test]
    fn other_libraries_names_are_taken() {
        let command = Command::new("x");
        let read = |text| dtype().parse_ref(&command, None, OsStr::new(text)).unwrap();
        assert_eq!((read("float"), read("half"), read("bf16")), (DataType::F32, DataType::F16, DataType::Bf16));
        let all = dtypes().parse_ref(&command, None, OsStr::new("all")).unwrap();
        assert_eq!(all.0.len(), DataType::ALL.len());
    }
}
