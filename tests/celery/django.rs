//! Django's own tasks: the backend of assets/python/beacon_tasks in a project that is otherwise as Celery's documentation
//! has it. Django 6 needs Python 3.12.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::journey;
use crate::python;
use crate::rig::{PYTHON, Program, Rig, Worker};
use crate::support::until;

/// The Python with Django.
fn django() -> PathBuf {
    python::environment_of(&interpreter(), &Path::new(PYTHON).join("requirements-django.txt"), "django")
}

/// A Python that Django 6 runs with.
fn interpreter() -> PathBuf {
    let fits = |python: &PathBuf| {
        let code = "import sys; sys.exit(sys.version_info < (3, 12))";
        let mut command = Command::new(python);
        command.args(["-c", code]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let named = ["python3", "python3.14", "python3.13", "python3.12"].map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let installed = std::fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let installed = installed.map(|entry| entry.path().join("bin/python3"));
    named
        .into_iter()
        .chain(installed)
        .find(fits)
        .expect("this test needs Python 3.12 or later: apt-get install python3.12")
}

/// A program of the site's.
fn of_site(rig: &Rig, command: &mut Command, python: &Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    let backend = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/python");
    command
        .current_dir(rig.path())
        .env("PATH", format!("{}:{path}", python.parent().unwrap().display()))
        .env("PYTHONPATH", format!("{PYTHON}:{}", backend.display()))
        .env("DJANGO_SETTINGS_MODULE", "django_site.settings");
}

/// A worker of the program that is tested.
#[track_caller]
fn worker(rig: &Rig, python: &Path, app: &str, flags: &[&str]) -> Worker {
    let mut command = match Program::tested() {
        Program::Beacon => rig.command(Program::Beacon),
        Program::Stock => {
            let mut command = rig.program(python);
            command.args(["-m", "celery"]);
            command
        }
    };
    of_site(rig, &mut command, python);
    command.args(["-A", app, "worker", "-n", "w1@test.example", "-l", "INFO"]).args(flags);
    let mut worker = rig.spawn(&mut command, "w1@test.example");
    worker.wait_ready();
    worker
}

/// What a line of Python prints that knows the site's tasks.
#[track_caller]
fn client(rig: &Rig, python: &Path, code: &str) -> String {
    let mut command = rig.program(python);
    of_site(rig, &mut command, python);
    let code = format!("import django; django.setup()\nfrom django_site import work\n{code}");
    let output = command.args(["-c", &code]).output().unwrap();
    assert!(output.status.success(), "{code}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A task's state, and the classes of its errors.
fn state(rig: &Rig, python: &Path, task: &str, id: &str) -> String {
    let code = format!(
        "result = work.{task}.get_result('{id}'); print(result.status, *[e.exception_class_path for e in result.errors])"
    );
    client(rig, python, &code)
}

#[test]
fn tasks_of_django_run_beside_celerys_and_end_as_django_says() {
    let (rig, python) = (Rig::new(), django());
    // The application knows nothing of the queues, nor of the task: a stock worker has to be told.
    let (app, flags) = match Program::tested() {
        Program::Beacon => ("django_site", &["-c", "2"][..]),
        Program::Stock => ("beacon_tasks", &["-Q", "django,mail", "-c", "2"][..]),
    };
    let worker = worker(&rig, &python, app, flags);
    journey::run_with(&rig, &worker, &python, "django_tasks.py", |command| of_site(&rig, command, &python));
}

#[test]
fn a_project_without_a_celery_application_needs_none() {
    let (rig, python) = (Rig::new(), django());
    let queued: Vec<String> = [("low", -100), ("none", 0), ("high", 100)]
        .iter()
        .map(|(word, priority)| format!("work.trace.using(priority={priority}).enqueue('order', '{word}')"))
        .collect();
    client(&rig, &python, &queued.join("\n"));
    let expiring = client(&rig, &python, "print(work.add_soon.enqueue(1).id)");
    std::thread::sleep(std::time::Duration::from_millis(600));
    // One place: the order of the priorities is that of the runs.
    let worker = worker(&rig, &python, "beacon_tasks", &["-Q", "django,mail", "-c", "1"]);
    assert_eq!(rig.wait_traces("order", 3), ["high", "none", "low"]);
    if Program::tested() == Program::Beacon {
        until("the end of what has expired", || {
            let state = state(&rig, &python, "add_soon", &expiring);
            (state == "FAILED celery.exceptions.TaskRevokedError").then_some(())
        });
    }
    assert!(worker.stop().success());
}

#[test]
fn a_task_whose_worker_is_killed_runs_again_and_counts_the_attempt() {
    if Program::tested() == Program::Stock {
        return;
    }
    let (rig, python) = (Rig::new(), django());
    let first = worker(&rig, &python, "django_site", &["-c", "1"]);
    let id = client(&rig, &python, "print(work.nap.enqueue('naps', 2).id)");
    rig.wait_traces("naps", 1);
    assert_eq!(state(&rig, &python, "nap", &id), "RUNNING");
    first.kill();
    let second = worker(&rig, &python, "django_site", &["-c", "1"]);
    rig.wait_traces("naps", 2);
    until("its end", || (state(&rig, &python, "nap", &id) == "SUCCESSFUL").then_some(()));
    let attempts = format!("print(work.nap.get_result('{id}').attempts)");
    assert_eq!(client(&rig, &python, &attempts), "2");
    assert!(second.stop().success());
}
