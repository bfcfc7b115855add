//! The database: whether it answers, how the way to it is protected, what the login may do, and what of the tables is open
//! or closed by mistake.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use super::Report;
use crate::app::database;
use crate::config::Config;
use crate::db::{Database, Error, Progress, TlsMode};
use crate::error::chain;
use crate::secret::Secret;

const SUBJECT: &str = "database";
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The oldest version that Beacon works with.
const OLDEST: i32 = 15;
/// A difference of the clocks from which on tokens seem to be from the future, or to have ended.
const DRIFT: Duration = Duration::from_secs(5);
/// How many names a finding lists.
const SOME: usize = 5;

/// Looks at the database at `url`.
pub(super) fn examine(report: &mut Report, config: &Config, url: &Secret) {
    let database = match database::open(config, url) {
        Ok(database) => database,
        Err(error) => return report.fail(SUBJECT, chain(&error).to_string(), "Mend [database]; see `beacon check`."),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.warn(SUBJECT, format!("it cannot be looked at: {error}"), ""),
    };
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, look(report, config, &database)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let text = format!("{}: {}", database.place(), chain(&error));
                report.fail(SUBJECT, text, fix(&error));
            }
            Err(_) => report.fail(
                SUBJECT,
                format!("{} did not answer all questions within {} s", database.place(), PATIENCE.as_secs()),
                "See what it does: select * from pg_stat_activity",
            ),
        }
    });
}

fn fix(error: &Error) -> &'static str {
    match error {
        Error::Authorities { .. } => "Set database.tls_ca_file to the authorities that its certificate leads to.",
        Error::Password(_) => "Run the command by hand, as the user beacon.",
        Error::Unreachable { .. } | Error::Timeout(_) if error.database().is_none() => {
            "See that it runs, that its name is found and that no firewall is in the way: database.url, DATABASE_URL."
        }
        _ => "Mend what the database says.",
    }
}

async fn look(report: &mut Report, config: &Config, database: &Database) -> Result<(), Error> {
    // A connection of its own: no pool, no timeouts of ours.
    let client = database.elsewhere(database.name()).await?;
    answers(report, database, &client).await?;
    protected(report, database, &client).await?;
    room(report, config, &client).await?;
    migrations(report, database).await?;
    let contract: bool = client.query_one("select to_regrole('anon') is not null", &[]).await?.get(0);
    login(report, config, &client, contract).await?;
    if config.api.enabled && contract {
        schemas(report, config, &client).await?;
    }
    Ok(())
}

async fn answers(report: &mut Report, database: &Database, client: &Client) -> Result<(), Error> {
    let begun = Instant::now();
    let sql = "select current_setting('server_version'), current_setting('server_version_num')::int / 10000,
               extract(epoch from clock_timestamp())::float8, pg_is_in_recovery()";
    let row = client.query_one(sql, &[]).await?;
    let took = begun.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let version: String = row.get(0);
    let place = database.place();
    if row.get::<_, i32>(1) < OLDEST {
        report.fail(
            SUBJECT,
            format!("{place} is PostgreSQL {version}"),
            format!("Beacon needs version {OLDEST} or later."),
        );
    } else {
        report.ok(SUBJECT, format!("PostgreSQL {version} answers: {place}, in {:.1} ms", took.as_secs_f64() * 1000.0));
    }
    if row.get::<_, bool>(3) {
        report.fail(
            SUBJECT,
            "it is a replica, which nobody can write to",
            "Name the primary, or both with target_session_attrs=read-write.",
        );
    }
    // The server looked at its clock at about half of the time that the answer took.
    let apart = (now.as_secs_f64() - took.as_secs_f64() / 2.0 - row.get::<_, f64>(2)).abs();
    if apart > DRIFT.as_secs_f64() + took.as_secs_f64() {
        report.warn(
            SUBJECT,
            format!("its clock and this host's are {apart:.0} s apart"),
            "Let a time server keep both: tokens and sessions are valid for a span of time.",
        );
    }
    Ok(())
}

async fn protected(report: &mut Report, database: &Database, client: &Client) -> Result<(), Error> {
    let mode = database.protection();
    if database.is_local() && mode == TlsMode::Disable {
        return Ok(());
    }
    let row = client
        .query_opt("select ssl, coalesce(version, '') from pg_stat_ssl where pid = pg_backend_pid()", &[])
        .await?;
    let (encrypted, version) = row.map_or((false, String::new()), |row| (row.get(0), row.get(1)));
    let verify =
        "Take sslmode out of the URL, or set database.tls = \"verify-full\"; database.tls_ca_file names its authority.";
    match mode {
        _ if !encrypted => report.warn(SUBJECT, "the connection is not encrypted, and leaves this host", verify),
        TlsMode::VerifyFull => report.ok(SUBJECT, format!("{version}; its certificate is verified (verify-full)")),
        TlsMode::VerifyCa => {
            report.ok(SUBJECT, format!("{version}; its authority is verified, and its name is not (verify-ca)"));
        }
        _ => report.warn(SUBJECT, format!("{version}, but nobody's certificate is verified"), verify),
    }
    Ok(())
}

/// Two slots are connected during a hand-over.
async fn room(report: &mut Report, config: &Config, client: &Client) -> Result<(), Error> {
    let sql = "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int";
    let most: i32 = client.query_one(sql, &[]).await?.get(0);
    let each = config.database.request_connections() + config.database.own_connections + 2;
    if i64::from(most) < 2 * each as i64 {
        report.warn(
            SUBJECT,
            format!("it takes {most} connections, and two slots in a hand-over may open {}", 2 * each),
            "Raise max_connections there, or lower database.connections.",
        );
    }
    Ok(())
}

async fn migrations(report: &mut Report, database: &Database) -> Result<(), Error> {
    let (own, application) = database.progress().await?;
    for (whose, steps, fix) in [
        ("Beacon's own migrations", &own, "`beacon serve` applies them when it starts."),
        ("the application's migrations", &application, "Run: beacon migrate up"),
    ] {
        if let Some(Progress { name, fault: Some(fault), .. }) = steps.iter().find(|step| step.fault.is_some()) {
            report.fail(SUBJECT, format!("{whose}: {name}: {fault}"), "See: beacon migrate status");
        }
        let pending = steps.iter().filter(|step| step.applied_at.is_none()).count();
        if pending > 0 {
            report.warn(SUBJECT, format!("{whose}: {pending} of {} are pending", steps.len()), fix);
        }
    }
    Ok(())
}

/// What the login may do, and the one of requests.
async fn login(report: &mut Report, config: &Config, client: &Client, contract: bool) -> Result<(), Error> {
    let sql = "select rolname::text, rolsuper, rolcreaterole or rolsuper from pg_roles where rolname = current_user";
    let row = client.query_one(sql, &[]).await?;
    let name: String = row.get(0);
    if row.get(1) {
        report.warn(
            SUBJECT,
            format!("\"{name}\" is a superuser, which Beacon does not need"),
            format!("Make it a role of its own: create role beacon login createrole password '…'; then let that own the database. Not {name}."),
        );
    }
    if !row.get::<_, bool>(2) && config.database.request_url.is_empty() {
        report.warn(
            SUBJECT,
            format!("\"{name}\" may not create roles, so requests of clients run in its own sessions"),
            format!("Run as a superuser: alter role \"{name}\" createrole; or set database.request_url."),
        );
    }
    if !contract {
        return Ok(());
    }
    let bypass = client.query_opt("select rolbypassrls from pg_roles where rolname = 'service_role'", &[]).await?;
    if bypass.is_some_and(|row| !row.get::<_, bool>(0)) {
        if config.database.service_role_policies {
            report.ok(SUBJECT, "service_role has no BYPASSRLS; policies of its own take the place of that");
        } else {
            report.warn(
                SUBJECT,
                "service_role has no BYPASSRLS, and database.service_role_policies is off: it sees only what policies give it",
                "Run as a superuser: alter role service_role bypassrls; or switch database.service_role_policies on.",
            );
        }
    }
    if !config.database.request_url.is_empty() {
        return Ok(());
    }
    let settings = client.query_one("select to_regclass('beacon.settings') is not null", &[]).await?;
    if !settings.get::<_, bool>(0) {
        return Ok(());
    }
    let sql = "select r.rolname::text, s.value from beacon.settings s, pg_roles r, pg_roles l
               where s.name = 'request_login' and l.rolname = s.value
               and r.rolname in ('anon', 'authenticated', 'service_role') and not pg_has_role(l.oid, r.oid, 'member')";
    for row in client.query(sql, &[]).await? {
        let (role, login): (String, String) = (row.get(0), row.get(1));
        report.fail(
            SUBJECT,
            format!("requests cannot change to the role {role}"),
            format!("Run as a superuser: grant {role} to \"{login}\";"),
        );
    }
    Ok(())
}

/// Tables, one of which a finding may name: not those of extensions.
const TABLES: &str = "
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any($1) and c.relkind in ('r', 'p')
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')";

/// What of the exposed schemas is open or closed by mistake.
async fn schemas(report: &mut Report, config: &Config, client: &Client) -> Result<(), Error> {
    let schemas = &config.api.schemas;
    for schema in schemas {
        let sql =
            "select has_schema_privilege('anon', oid, 'usage') and has_schema_privilege('authenticated', oid, 'usage')
                   and has_schema_privilege('service_role', oid, 'usage') from pg_namespace where nspname = $1";
        match client.query_opt(sql, &[schema]).await? {
            None => report.warn(
                SUBJECT,
                format!("there is no schema \"{schema}\", which api.schemas names"),
                "Make it, or take it out of the list.",
            ),
            Some(row) if !row.get::<_, bool>(0) => report.warn(
                SUBJECT,
                format!("the schema \"{schema}\" is not granted to all roles of requests"),
                format!("Run: grant usage on schema \"{schema}\" to anon, authenticated, service_role;"),
            ),
            Some(_) => {}
        }
    }
    let sql = format!(
        "select c.oid::regclass::text {TABLES} and not c.relrowsecurity and exists (
             select from unnest(array['anon', 'authenticated']) r where has_table_privilege(r, c.oid, 'select,insert,update,delete'))
         order by 1"
    );
    let open: Vec<String> = client.query(&sql, &[schemas]).await?.iter().map(|row| row.get(0)).collect();
    if let Some(first) = open.first() {
        let who = if config.api.expose_unprotected {
            "everybody may read and change all of their rows, also without a token (api.expose_unprotected)"
        } else {
            "whoever has signed in may read and change all of their rows; those without a token are refused"
        };
        report.warn(
            "row security",
            format!("{} tables have no row-level security: {}: {who}", open.len(), some(&open)),
            format!("Run: alter table {first} enable row level security; and create policies for who may what."),
        );
    } else {
        report.ok("row security", format!("it is on for each table in {} that clients reach", schemas.join(", ")));
    }
    let sql = format!(
        "select c.oid::regclass::text, pg_get_userbyid(c.relowner)::text, n.nspname::text {TABLES}
         and not has_table_privilege('service_role', c.oid, 'select') order by 1"
    );
    let rows = client.query(&sql, &[schemas]).await?;
    let closed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if let Some(first) = rows.first() {
        let (owner, schema): (String, String) = (first.get(1), first.get(2));
        report.warn(
            "grants",
            format!("{} tables are not granted to service_role: {}", closed.len(), some(&closed)),
            format!(
                "If the API is to have them, run as \"{owner}\": grant all on all tables in schema \"{schema}\" to anon, authenticated, service_role;"
            ),
        );
    }
    defaults(report, client, schemas).await
}

/// Whoever makes tables in an exposed schema needs default privileges there, or the next table is closed.
async fn defaults(report: &mut Report, client: &Client, schemas: &[String]) -> Result<(), Error> {
    let sql = format!(
        "select distinct pg_get_userbyid(o.owner)::text, o.schema::text from (
             select c.relowner as owner, n.oid as namespace, n.nspname as schema {TABLES}
             union select r.oid, n.oid, n.nspname from pg_roles r, pg_namespace n
                   where r.rolname = current_user and n.nspname = 'public' and n.nspname = any($1)) o
         where not exists (
             select from pg_default_acl d, aclexplode(d.defaclacl) a
             where d.defaclrole = o.owner and d.defaclnamespace in (0, o.namespace) and d.defaclobjtype = 'r'
             and a.grantee = to_regrole('service_role'))
         order by 1, 2"
    );
    for row in client.query(&sql, &[&schemas]).await? {
        let (owner, schema): (String, String) = (row.get(0), row.get(1));
        report.warn(
            "grants",
            format!("tables that \"{owner}\" makes in \"{schema}\" are not granted to the roles of requests by themselves"),
            format!(
                "Run: alter default privileges for role \"{owner}\" in schema \"{schema}\" grant all on tables to anon, authenticated, service_role;"
            ),
        );
    }
    Ok(())
}

fn some(names: &[String]) -> String {
    let mut text = names.iter().take(SOME).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SOME {
        text.push_str(", …");
    }
    text
}
