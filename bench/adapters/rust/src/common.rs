//! What the Rust adapters share: arguments, CPU time, payloads, the line they print.
#![allow(dead_code)]
use std::time::Instant;

pub fn arg(k: &str, d: &str) -> String {
    let v: Vec<String> = std::env::args().skip(1).collect();
    v.chunks(2).find(|c| c.len() == 2 && c[0][2..] == *k).map(|c| c[1].clone()).unwrap_or_else(|| d.into())
}
pub fn num(k: &str, d: &str) -> usize {
    arg(k, d).parse().unwrap()
}
pub fn cpu() -> f64 {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    let t = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    t(u.ru_utime) + t(u.ru_stime)
}
/// The pool of payloads: the file cut into records of `size` bytes.
pub fn pool(size: usize) -> Vec<Vec<u8>> {
    std::fs::read(arg("payload", "")).expect("payload").chunks_exact(size).map(|c| c.to_vec()).collect()
}
pub fn out(client: &str, version: &str, rest: String) {
    println!("{{\"client\":\"{client}\",\"version\":\"{version}\",{rest}}}");
}
pub fn latency_out(client: &str, version: &str, n: usize, warm: usize, t0: Instant, cpu_s: f64, lat: &[i64]) {
    let mut l = lat[warm..].to_vec();
    l.sort_unstable();
    let p = |q: f64| l[((l.len() - 1) as f64 * q) as usize] as f64 / 1e6;
    out(client, version, format!(
        "\"messages\":{n},\"seconds\":{:.6},\"cpu_s\":{cpu_s:.6},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"max_ms\":{:.3}",
        t0.elapsed().as_secs_f64(), p(0.5), p(0.99), p(0.999), p(1.0)));
}
