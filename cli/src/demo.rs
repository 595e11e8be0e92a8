//! `ottla demo`: the main job on real data, in one process.
//!
//! In: recorded GPS tracks (examples/data, or a file of the same form). Out: a table with a line a track: points,
//! partition, distance, and whether the order held. It starts a broker of its own, creates the topic `gpsraw` with two
//! partitions, has two consumers share them as a group, produces every track in order with its id as the key, and has one of
//! the two leave in the middle, so that the other takes over. It ends with an error if a point is missing, doubled, changed or
//! out of order, or if the group has not committed all of it.

mod group;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ottla::{Admin, NewTopic, Producer, Record};
use ottla_broker::Cluster;
use serde::Deserialize;

use crate::output::say;
use crate::summary::{counted, grouped};
use crate::topics::the_answer;
use crate::{Failure, Outcome};

const TOPIC: &str = "gpsraw";
const PARTITIONS: i32 = 2;
const TRACKS: &str = include_str!("../data/gpsraw.jsonl");

/// Show the whole way of real GPS tracks through a broker of its own.
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// Another file of points: JSON lines with track, time, lat, lon, ele.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// One point of a track, as a line of the file says it.
#[derive(Deserialize, Debug, Clone, PartialEq)]
struct Point {
    track: String,
    time: String,
    lat: f64,
    lon: f64,
    ele: f64,
}

/// What came back of one track.
#[derive(Debug, Default)]
struct Track {
    lines: Vec<String>,
    partitions: Vec<i32>,
}

/// Starts, produces, consumes, compares.
pub async fn run(arguments: DemoArguments) -> Outcome {
    let text = match &arguments.file {
        None => TRACKS.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?,
    };
    let sent = tracks_of(&text)?;
    let started = Instant::now();
    let cluster = Cluster::start().await?;
    let bootstrap = cluster.bootstrap_servers();
    say!(
        "broker      started in {:.0} ms at {bootstrap}",
        started.elapsed().as_secs_f64() * 1000.0
    );

    let admin = Admin::builder().bootstrap_servers(&bootstrap).build().await?;
    the_answer(
        admin
            .create_topics(&[NewTopic::new(TOPIC).partitions(PARTITIONS).replication_factor(1)])
            .await?,
    )??;
    say!("topic       {TOPIC}, {PARTITIONS} partitions");

    let group = group::Group::join(&bootstrap).await?;
    produce(&bootstrap, &text).await?;
    let received = group.consume(text.lines().count()).await?;
    group::check_committed(&admin).await?;
    admin.close().await;
    cluster.stop().await?;
    compare(&sent, &received)
}

/// The file's lines by track, in the file's order.
fn tracks_of(text: &str) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut tracks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let point: Point = serde_json::from_str(line)
            .map_err(|error| Failure::new(format!("line {}: not a point: {error}", number + 1)))?;
        tracks.entry(point.track).or_default().push(line.to_owned());
    }
    if tracks.is_empty() {
        Err(Failure::new("no points in the file"))
    } else {
        Ok(tracks)
    }
}

async fn produce(bootstrap: &str, text: &str) -> Outcome {
    let producer = Producer::builder().bootstrap_servers(bootstrap).build().await?;
    let started = Instant::now();
    let mut deliveries = Vec::new();
    for line in text.lines() {
        let point: Point = serde_json::from_str(line)?;
        let record = Record::to(TOPIC).key(point.track.as_bytes()).value(line.as_bytes());
        deliveries.push(producer.send(record).await?);
    }
    let count = deliveries.len() as u64;
    for delivery in deliveries {
        delivery.await?;
    }
    say!(
        "produced    {} in {:.0} ms, each acknowledged",
        counted(count, "point"),
        millis(started)
    );
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}

fn compare(sent: &BTreeMap<String, Vec<String>>, received: &BTreeMap<String, Track>) -> Outcome {
    say!(
        "\n{:<18} {:>7} {:>10} {:>12} {:>11}",
        "track",
        "points",
        "partition",
        "distance",
        "order held"
    );
    let mut wrong = Vec::new();
    let nothing = Track::default();
    for (name, lines) in sent {
        let track = received.get(name).unwrap_or(&nothing);
        let held = track.lines == *lines && track.partitions.len() == 1;
        let partitions: Vec<String> = track.partitions.iter().map(i32::to_string).collect();
        say!(
            "{name:<18} {:>7} {:>10} {:>9.2} km {:>11}",
            grouped(track.lines.len() as u64),
            partitions.join(","),
            distance_km(&track.lines),
            if held { "yes" } else { "NO" }
        );
        if !held {
            wrong.push(name.as_str());
        }
    }
    wrong.extend(
        received
            .keys()
            .filter(|name| !sent.contains_key(*name))
            .map(String::as_str),
    );
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(Failure::new(format!(
            "what came back differs from what was sent: {}",
            wrong.join(", ")
        ))),
    }
}

/// The length of the way over the ground, by great circles on a sphere of the Earth's mean radius.
fn distance_km(lines: &[String]) -> f64 {
    const EARTH_RADIUS_KM: f64 = 6371.0088;
    let points: Vec<Point> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    points
        .windows(2)
        .map(|pair| match pair {
            [from, to] => {
                let (from_lat, to_lat) = (from.lat.to_radians(), to.lat.to_radians());
                let half_lat = (to_lat - from_lat) / 2.0;
                let half_lon = (to.lon - from.lon).to_radians() / 2.0;
                let chord = half_lat.sin().powi(2) + from_lat.cos() * to_lat.cos() * half_lon.sin().powi(2);
                2.0 * EARTH_RADIUS_KM * chord.sqrt().asin()
            }
            _ => 0.0,
        })
        .sum()
}

fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_tracks_is_whole() {
        let tracks = tracks_of(TRACKS).unwrap();
        let points: Vec<_> = tracks
            .iter()
            .map(|(name, lines)| (name.as_str(), lines.len()))
            .collect();
        let expected = [
            ("cerknica-lake", 296),
            ("loisach-ride", 3540),
            ("los-gatos-stroll", 988),
            ("visnjan-by-car", 104),
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn a_degree_of_latitude_is_111_km() {
        let line = |lat: f64| format!(r#"{{"track":"t","time":"","lat":{lat},"lon":14.0,"ele":0.0}}"#);
        let distance = distance_km(&[line(45.0), line(46.0)]);
        assert!((distance - 111.195).abs() < 0.01, "{distance}");
    }

    #[test]
    fn a_missing_point_is_noticed() {
        let sent = BTreeMap::from([("t".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let received = BTreeMap::from([(
            "t".to_owned(),
            Track {
                lines: vec!["a".to_owned()],
                partitions: vec![0],
            },
        )]);
        assert!(compare(&sent, &received).unwrap_err().0.contains("differs"));
    }
}
