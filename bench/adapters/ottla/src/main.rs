//! Ottla's adapter of the peer benchmark. See ../../../README.md for the argument list.
//!
//! Arguments more: `--runtime current` drives everything from one thread; the default is tokio's own default, one
//! worker a core. `--blocking 1` produces and consumes through `ottla::blocking`. `--batch-size`, `--in-flight` and
//! `--buffer-memory` set the keys of these names; without them the defaults hold. `--owned 1` gives values away, `--keys 1`
//! gives each record one of 1,000 keys. One mode more: `first`, for the start of a broker.

mod consuming;
mod producing;

use std::time::{Duration, Instant};

use ottla::{Admin, NewTopic, Record};
use rustix::time::{ClockId, clock_gettime};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    if arg("blocking", "0") == "1" {
        return match arg("mode", "produce").as_str() {
            "produce" => producing::produce_blocking(),
            "consume" => consuming::consume_blocking(),
            mode => Err(format!("no mode {mode} of the blocking clients").into()),
        };
    }
    let mut runtime = match arg("runtime", "multi").as_str() {
        "current" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match arg("mode", "produce").as_str() {
            "produce" => producing::produce().await,
            "consume" => consuming::consume().await,
            // A wake-up within the runtime costs no switch of threads.
            "latency" if arg("task", "0") == "1" => tokio::spawn(latency()).await?,
            "latency" => latency().await,
            "first" => first().await,
            mode => Err(format!("no mode {mode}").into()),
        }
    })
}

async fn latency() -> Outcome {
    let (messages, size, rate) = (num("messages", "12000")?, num("size", "100")?, num("rate", "1000")?);
    let warmup = num("warmup", "2000")?;
    let (producer, mut consumer) = (producing::builder().build().await?, consuming::assigned().build().await?);
    let topic = producer.topic(&arg("topic", "t")).await?;
    let (probe, mut probed) = tokio::sync::oneshot::channel();
    let reading = tokio::spawn(async move {
        let (mut latencies, mut probe) = (Vec::with_capacity(messages + 1), Some(probe));
        while latencies.len() <= messages {
            let Ok(Some(records)) = consumer.poll().await else { break };
            for record in &records {
                let sent = record.value().and_then(|value| value.first_chunk()).map_or(0, |at| i64::from_le_bytes(*at));
                latencies.push(now_ns() - sent);
                if let Some(probe) = probe.take() {
                    let _ = probe.send(());
                }
            }
        }
        latencies
    });
    let mut value = vec![0; size];
    let mut send = async || -> Outcome {
        value[..8].copy_from_slice(&now_ns().to_le_bytes());
        drop(topic.send(topic.record().value(&value)).await?);
        Ok(())
    };
    send().await?;
    (&mut probed).await?;
    let (cpu, start) = (cpu_seconds(), Instant::now());
    for at in 0..messages {
        let due = Duration::from_secs_f64(at as f64 / rate as f64);
        let early = due.saturating_sub(start.elapsed());
        // Even a sleep of nothing lasts until the timer's next millisecond.
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
        send().await?;
    }
    let mut latencies = reading.await?.split_off(1 + warmup);
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    latencies.sort_unstable();
    let p = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize] as f64 / 1e6;
    print(&format!(
        "\"messages\":{messages},\"seconds\":{seconds:.6},\"cpu_s\":{cpu:.6},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\
         \"p999_ms\":{:.3},\"max_ms\":{:.3}",
        p(0.5),
        p(0.99),
        p(0.999),
        p(1.0)
    ));
    Ok(())
}

/// From before the broker is there: connects, creates the topic, writes one record; tells the time when it was
/// acknowledged, on the monotonic clock that all processes share.
async fn first() -> Outcome {
    let (bootstrap, name) = (arg("bootstrap", "127.0.0.1:9092"), arg("topic", "t"));
    while tokio::net::TcpStream::connect(&bootstrap).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let admin = Admin::builder().bootstrap_servers(&bootstrap).build().await?;
    admin.create_topics(&[NewTopic::new(&name).partitions(1).replication_factor(1)]).await?;
    let producer = producing::builder().build().await?;
    producer.send(Record::to(&name).value(b"first")).await?.await?;
    print(&format!("\"messages\":1,\"at_ns\":{}", now_ns()));
    Ok(())
}

fn print(fields: &str) {
    println!("{{\"client\":\"ottla\",\"version\":\"{}\",{fields}}}", ottla::VERSION);
}

fn arg(name: &str, default: &str) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pair = arguments.chunks(2).find(|pair| pair.len() == 2 && pair[0].trim_start_matches("--") == name);
    pair.map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn num(name: &str, default: &str) -> Result<usize, std::num::ParseIntError> {
    arg(name, default).parse()
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn now_ns() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
