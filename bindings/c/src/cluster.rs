//! The embedded broker, for the tests of those who use the library.

use std::ffi::{CString, c_char};
use std::ptr;

use ottla_bindings_core::Cluster;

use crate::border::{c_string, ffi};
use crate::config::{ottla_config, pairs};
use crate::error::ottla_error;
use crate::handles::{Sort, Table};
use crate::waiting::{Deadline, for_future};

/// A broker in this process, for tests: starts in milliseconds on a free port. A handle: NULL, a freed or a wrong one is an
/// error, never a crash.
pub struct ottla_cluster {
    _opaque: [u8; 0],
}

struct Broker {
    core: Cluster,
    servers: CString,
}

static CLUSTERS: Table<Broker> = Table::new(Sort::Cluster, "cluster");

/// Starts a broker in this process. Its data are in a temporary folder, which is removed at the end.
///
/// `properties`: keys of server.properties, or NULL.
/// Ownership: the properties are copied. The caller ends `*cluster` with ottla_cluster_stop(), or with ottla_cluster_free().
/// Threads: any, and so are all other functions of a cluster.
/// Errors: OTTLA_ERROR_CONFIG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_start(
    properties: *const ottla_config,
    cluster: *mut *mut ottla_cluster,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let out = given.out(cluster, "cluster")?;
        let pairs = match properties.is_null() {
            true => Vec::new(),
            false => pairs(properties)?,
        };
        *out = CLUSTERS.insert(|place| {
            let starting = Cluster::start(pairs, None);
            let core = for_future(starting, Deadline::after(-1), place, "starting the broker")??;
            let servers = c_string(&core.bootstrap_servers()?);
            Ok(Broker { core, servers })
        })?;
        Ok(())
    })
}

/// What clients take as "bootstrap.servers". Lives until the cluster is stopped or freed. NULL for what is no cluster.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_bootstrap_servers(cluster: *const ottla_cluster) -> *const c_char {
    CLUSTERS
        .get(cluster)
        .map_or(ptr::null(), |broker| broker.servers.as_ptr())
}

/// Has the broker do wrong what `rule` says, such as "api=Produce topic=gps error_after=6 times=2".
///
/// Errors: OTTLA_ERROR_ARGUMENT for a rule that is not understood.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_fault(
    cluster: *mut ottla_cluster,
    rule: *const c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        CLUSTERS.get(cluster)?.core.fault(given.text(rule, "rule")?)
    })
}

/// Takes all faults away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_clear_faults(cluster: *mut ottla_cluster, error: *mut *mut ottla_error) -> i32 {
    ffi!(error, |given| { CLUSTERS.get(cluster)?.core.clear_faults() })
}

/// Ends all connections to the broker, as a network does that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_disconnect_all(
    cluster: *mut ottla_cluster,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| { CLUSTERS.get(cluster)?.core.disconnect_all() })
}

/// Ends the broker with everything on its disk, waits for that, and frees the handle. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_stop(cluster: *mut ottla_cluster, error: *mut *mut ottla_error) -> i32 {
    ffi!(error, |given| {
        if cluster.is_null() {
            return Ok(());
        }
        let stopping = {
            let broker = CLUSTERS.get(cluster)?;
            let stopping = broker.core.stop();
            for_future(stopping, Deadline::after(-1), broker.place, "stopping the broker")?
        };
        CLUSTERS.remove(cluster)?;
        stopping
    })
}

/// Ends the broker at once, as a kill would, and frees the handle. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_cluster_free(cluster: *mut ottla_cluster) -> i32 {
    ffi!(ptr::null_mut(), |given| {
        match cluster.is_null() {
            true => Ok(()),
            false => CLUSTERS.remove(cluster).map(|_| ()),
        }
    })
}
