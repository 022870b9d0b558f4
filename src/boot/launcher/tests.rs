//! Each launcher's variables, whole, in part, and in contradiction.

use super::*;

fn from(pairs: &[(&str, &str)]) -> Result<Option<Launch>> {
    detect(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
}

fn found(pairs: &[(&str, &str)]) -> Launch {
    from(pairs).unwrap().unwrap()
}

/// Some of these variables, the last of equal names wins.
fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    more.iter().chain(base).copied().collect()
}

fn without<'a>(base: &[(&'a str, &'a str)], name: &str) -> Vec<(&'a str, &'a str)> {
    base.iter().copied().filter(|(key, _)| *key != name).collect()
}

const TORCHRUN: &[(&str, &str)] = &[
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("MASTER_ADDR", "node1"),
    ("MASTER_PORT", "29500"),
    ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ("TORCHELASTIC_RUN_ID", "job7"),
    ("TORCHELASTIC_RESTART_COUNT", "2"),
];
const SLURM: &[(&str, &str)] = &[
    ("SLURM_PROCID", "3"),
    ("SLURM_NTASKS", "8"),
    ("SLURM_LOCALID", "1"),
    ("SLURM_JOB_ID", "4711"),
    ("SLURM_STEP_ID", "2"),
    ("SLURM_NNODES", "4"),
    ("SLURM_JOB_NODELIST", "gpu[07-10]"),
];
const OPEN_MPI: &[(&str, &str)] = &[
    ("OMPI_COMM_WORLD_RANK", "1"),
    ("OMPI_COMM_WORLD_SIZE", "2"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
    ("PMIX_NAMESPACE", "prterun-host-12@1"),
];
const PMI: &[(&str, &str)] =
    &[("PMI_RANK", "2"), ("PMI_SIZE", "4"), ("PMI_FD", "9"), ("MPI_LOCALRANKID", "0"), ("MPI_LOCALNRANKS", "2")];
const PLAIN: &[(&str, &str)] =
    &[("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "job-0.svc"), ("MASTER_PORT", "2222")];

#[test]
fn nothing_in_the_environment_is_no_launcher() {
    assert_eq!(from(&[]).unwrap(), None);
    assert_eq!(from(&[("JOB_COMPLETION_INDEX", "3"), ("MASTER_PORT", "1"), ("SLURM_JOB_ID", "4")]).unwrap(), None);
}

#[test]
fn ringtree_run_brings_the_id_and_goes_before_all_others() {
    let config =
        crate::boot::BootConfig { one_host: true, timeout: std::time::Duration::from_millis(1), ..Default::default() };
    let id = UniqueId::with_config(&config).unwrap();
    let hex = id.to_hex();
    let own = [("RINGTREE_RANK", "1"), ("RINGTREE_SIZE", "3"), ("RINGTREE_ID", hex.as_str())];
    let launch = found(&with(TORCHRUN, &own));
    assert_eq!((launch.rank, launch.size, launch.launcher), (1, 3, "ringtree run"));
    assert_eq!(launch.meeting, Meeting::Id(id));
    for (name, _) in own {
        let message = from(&without(&own, name)).unwrap_err().to_string();
        assert!(message.contains(&format!("{name} is not set")), "{message}");
    }
}

#[test]
fn torchrun_meets_in_the_agents_store_with_run_and_restart_in_the_key() {
    let launch = found(TORCHRUN);
    let expected = Meeting::Store { host: "node1".into(), port: 29500, prefix: "ringtree/job7/2".into() };
    assert_eq!((launch.rank, launch.size, launch.local_rank, launch.local_size), (5, 8, Some(1), Some(4)));
    assert_eq!((launch.launcher, &launch.meeting), ("torchrun", &expected));
    assert!(!launch.is_one_host());

    let again = found(&with(TORCHRUN, &[("TORCHELASTIC_RESTART_COUNT", "3")]));
    assert_ne!(again.meeting, launch.meeting);
    let no_store = found(&with(TORCHRUN, &[("TORCHELASTIC_USE_AGENT_STORE", "False")]));
    assert_eq!(no_store.meeting, Meeting::Address { host: "node1".into(), port: 29500 });
    assert!(found(&with(TORCHRUN, &[("LOCAL_WORLD_SIZE", "8")])).is_one_host());
    // A job of Slurm around torchrun says nothing about its workers.
    assert_eq!(found(&with(TORCHRUN, SLURM)).rank, 5);
}

#[test]
fn slurm_meets_on_its_only_host_or_at_the_first_of_several() {
    let launch = found(SLURM);
    assert_eq!((launch.rank, launch.size, launch.local_rank), (3, 8, Some(1)));
    let Meeting::Address { host, port } = &launch.meeting else { panic!("{launch:?}") };
    assert_eq!(host, "gpu07");
    assert!((20_000..30_000).contains(port));
    let other_step = found(&with(SLURM, &[("SLURM_STEP_ID", "3")]));
    assert_ne!(other_step.meeting, launch.meeting);

    let one = found(&with(SLURM, &[("SLURM_NNODES", "1")]));
    assert_eq!(one.meeting, Meeting::HostJob { name: "slurm 4711.2".into() });
    assert!(one.is_one_host());
    let chosen = found(&with(SLURM, &[("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "77")]));
    assert_eq!(chosen.meeting, Meeting::Address { host: "10.0.0.1".into(), port: 77 });
    // The batch script itself is no rank.
    assert_eq!(from(&without(SLURM, "SLURM_STEP_ID")).unwrap(), None);
    for name in ["SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"] {
        let message = from(&without(SLURM, name)).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn open_mpi_meets_by_its_jobs_name_on_one_host_and_at_an_address_on_several() {
    let launch = found(OPEN_MPI);
    assert_eq!((launch.rank, launch.size, launch.local_rank), (1, 2, Some(1)));
    assert_eq!(launch.meeting, Meeting::HostJob { name: "open mpi prterun-host-12@1".into() });
    let several = with(OPEN_MPI, &[("OMPI_COMM_WORLD_SIZE", "4")]);
    let message = from(&several).unwrap_err().to_string();
    assert!(message.contains("MASTER_ADDR") && message.contains("MASTER_PORT"), "{message}");
    let told = found(&with(&several, &[("MASTER_ADDR", "h"), ("MASTER_PORT", "5")]));
    assert_eq!(told.meeting, Meeting::Address { host: "h".into(), port: 5 });
    let message = from(&without(OPEN_MPI, "OMPI_COMM_WORLD_SIZE")).unwrap_err().to_string();
    assert!(message.contains("OMPI_COMM_WORLD_SIZE is not set"), "{message}");
}

#[test]
fn mpich_and_intel_mpi_meet_through_their_process_manager() {
    let launch = found(PMI);
    assert_eq!((launch.rank, launch.size, launch.local_rank), (2, 4, Some(0)));
    assert_eq!(launch.meeting, Meeting::Pmi { fd: 9 });
    // srun with PMI-2 sets both families; the process manager's channel is the better one.
    assert_eq!(
        found(&with(PMI, &with(SLURM, &[("SLURM_PROCID", "2"), ("SLURM_NTASKS", "4")]))).meeting,
        launch.meeting
    );
    let by_port = with(&without(PMI, "PMI_FD"), &[("PMI_PORT", "h:5"), ("MPI_LOCALNRANKS", "4")]);
    assert_eq!(found(&by_port).meeting, Meeting::HostJob { name: "pmi h:5".into() });
    let message = from(&without(PMI, "PMI_FD")).unwrap_err().to_string();
    assert!(message.contains("PMI_FD") && message.contains("MASTER_ADDR"), "{message}");
    for name in ["PMI_RANK", "PMI_SIZE"] {
        let message = from(&without(PMI, name)).unwrap_err().to_string();
        assert!(message.contains(&format!("{name} is not set")), "{message}");
    }
}

#[test]
fn plain_variables_meet_at_the_address_and_kubernetes_may_say_the_rank() {
    let launch = found(PLAIN);
    assert_eq!((launch.rank, launch.size), (1, 4));
    assert_eq!(launch.meeting, Meeting::Address { host: "job-0.svc".into(), port: 2222 });
    let indexed = with(&without(PLAIN, "RANK"), &[("JOB_COMPLETION_INDEX", "3")]);
    assert_eq!(found(&indexed).rank, 3);
    assert_eq!(found(&[("RANK", "0"), ("WORLD_SIZE", "1")]).size, 1);
    for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
        let message = from(&without(PLAIN, name)).unwrap_err().to_string();
        assert!(message.contains(&format!("{name} is not set")), "{message}");
    }
    let message = from(&PLAIN[..2]).unwrap_err().to_string();
    assert!(message.contains("MASTER_ADDR and MASTER_PORT are not"), "{message}");
}

#[test]
fn an_mpi_and_plain_variables_that_contradict_each_other_are_an_error_that_names_both() {
    let message = from(&with(OPEN_MPI, PLAIN)).unwrap_err().to_string();
    assert!(
        message.contains("rank 1 of 4") && message.contains("rank 1 of 2") && message.contains("RINGTREE_ID"),
        "{message}"
    );
    let agreeing = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "h"), ("MASTER_PORT", "5")];
    assert_eq!(found(&with(OPEN_MPI, &agreeing)).launcher, "mpirun of Open MPI");
}

#[test]
fn numbers_that_are_none_or_do_not_fit_are_errors_that_name_the_variable() {
    for (base, name, value) in [
        (TORCHRUN, "RANK", "x"),
        (TORCHRUN, "RANK", "8"),
        (TORCHRUN, "RANK", "-1"),
        (TORCHRUN, "WORLD_SIZE", "0"),
        (TORCHRUN, "MASTER_PORT", "70000"),
        (TORCHRUN, "MASTER_PORT", "0"),
        (TORCHRUN, "TORCHELASTIC_RESTART_COUNT", "many"),
        (SLURM, "SLURM_PROCID", "8"),
        (SLURM, "SLURM_LOCALID", "one"),
        (OPEN_MPI, "OMPI_COMM_WORLD_RANK", "2"),
        (PMI, "PMI_RANK", "4"),
        (PMI, "PMI_FD", "-"),
        (PLAIN, "WORLD_SIZE", "99999999999"),
        (PLAIN, "WORLD_SIZE", "2000000"),
    ] {
        let message = from(&with(base, &[(name, value)])).unwrap_err().to_string();
        assert!(message.contains(name), "{name}={value}: {message}");
    }
    for (name, value) in [("LOCAL_RANK", "4"), ("LOCAL_WORLD_SIZE", "9")] {
        let message = from(&with(TORCHRUN, &[(name, value)])).unwrap_err().to_string();
        assert!(message.contains("on its host"), "{message}");
    }
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    assert_eq!(from(&[("RANK", ""), ("WORLD_SIZE", " ")]).unwrap(), None);
}
