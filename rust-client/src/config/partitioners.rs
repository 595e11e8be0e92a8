//! The partitioner by name: librdkafka's names, and Java's classes as far as there is the same thing here.
//!
//! In: `partitioner`, `partitioner.class`, `partitioner.ignore.keys`. Out: one rule, and whether it looks at keys. It
//! loads no classes, and refuses two names that contradict each other.

use ottla_client_state::partitioner::Partitioner;

use super::{Settings, mistake};
use crate::error::Result;

/// The rule, and whether it passes over keys.
pub(super) fn chosen(settings: &Settings) -> Result<(Partitioner, bool)> {
    let named = settings.choice("partitioner").parse().unwrap_or_default();
    let ignore_keys = settings.yes("partitioner.ignore.keys");
    if !settings.is_set("partitioner.class") {
        return Ok((named, ignore_keys));
    }
    let class = settings.text("partitioner.class");
    let (rule, ignores) = of_class(class)?;
    if settings.is_set("partitioner") && named != rule {
        return Err(mistake(format!(
            "partitioner.class={class} and partitioner={named} are not the same; set one of them"
        )));
    }
    Ok((rule, ignore_keys || ignores))
}

/// A value of `partitioner.class`: what it means here, and whether it passes over keys. The package may be left out.
pub(super) fn of_class(value: &str) -> Result<(Partitioner, bool)> {
    match value.rsplit('.').next().unwrap_or_default() {
        "" | "null" | "DefaultPartitioner" => Ok((Partitioner::Default, false)),
        "RoundRobinPartitioner" => Ok((Partitioner::RoundRobin, false)),
        "UniformStickyPartitioner" => Ok((Partitioner::Default, true)),
        _ => Err(mistake(format!(
            "partitioner.class is {value:?}, a Java class, which this client does not load; it must be \
             org.apache.kafka.clients.producer.RoundRobinPartitioner or null. Choose a built-in rule with partitioner, \
             or give the builder your own function"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientKind;

    #[test]
    fn partitioners_have_librdkafkas_names_and_javas_classes_their_nearest() {
        let rule = |pairs: &[(&str, &str)]| {
            let mut settings = Settings::new(ClientKind::Producer);
            settings.set("bootstrap.servers", "localhost:9092");
            for (key, value) in pairs {
                settings.set(key, value);
            }
            let config = settings.producer()?;
            Ok::<_, crate::Error>((config.partitioner, config.partitioner_ignore_keys))
        };
        assert_eq!(rule(&[]).unwrap(), (Partitioner::Default, false));
        for expected in Partitioner::ALL {
            assert_eq!(rule(&[("partitioner", expected.name())]).unwrap(), (expected, false));
        }
        let java = |class: &str| rule(&[("partitioner.class", class)]);
        let package = "org.apache.kafka.clients.producer";
        assert_eq!(
            java(&format!("{package}.RoundRobinPartitioner")).unwrap(),
            (Partitioner::RoundRobin, false)
        );
        for class in [
            "null",
            "",
            "org.apache.kafka.clients.producer.internals.DefaultPartitioner",
        ] {
            assert_eq!(java(class).unwrap(), (Partitioner::Default, false), "{class}");
        }
        assert_eq!(
            java(&format!("{package}.UniformStickyPartitioner")).unwrap(),
            (Partitioner::Default, true)
        );
        let error = java("com.example.ByRegion").unwrap_err();
        assert!(error.message().contains("a Java class"), "{error}");
        let error = rule(&[
            ("partitioner.class", "RoundRobinPartitioner"),
            ("partitioner", "random"),
        ])
        .unwrap_err();
        assert!(error.message().contains("set one of them"), "{error}");
        assert!(
            rule(&[("partitioner", "round-robin")])
                .unwrap_err()
                .message()
                .contains("round_robin")
        );
        assert!(
            rule(&[("sticky.partitioning.linger.ms", "10")])
                .unwrap_err()
                .message()
                .contains("batch.size")
        );
    }
}
