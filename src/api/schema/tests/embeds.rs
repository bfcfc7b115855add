//! Relationships, and what is said when there is none or more than one.

use serde_json::{Value, json};

use super::super::{Catalog, Join, Relationship, RelationshipError};
use super::{fixtures, name};

/// A relationship on one line.
fn shown(relationship: &Relationship) -> String {
    let pairs = |columns: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
        columns.iter().map(|(near, far)| format!("{near}={far}")).collect::<Vec<_>>().join(",")
    };
    let to = &relationship.to.name;
    match &relationship.join {
        Join::ManyToOne(key) => format!("{to} one {} {}", key.constraint, pairs(&key.columns)),
        Join::OneToOne(key, parent) => {
            format!("{to} {} {} {}", if *parent { "its one" } else { "same" }, key.constraint, pairs(&key.columns))
        }
        Join::OneToMany(key) => format!("{to} many {} {}", key.constraint, pairs(&key.columns)),
        Join::ManyToMany(junction) => format!(
            "{to} many over {} {} / {}",
            junction.relation.name,
            pairs(&junction.near.columns),
            pairs(&junction.far.columns)
        ),
        Join::Computed(function, single) => {
            format!("{to} {} by {}", if *single { "one" } else { "many" }, function.name)
        }
    }
}

fn embed(catalog: &Catalog, from: &str, target: &str) -> String {
    let (target, hint) = target.split_once('!').map_or((target, None), |(target, hint)| (target, Some(hint)));
    match catalog.relationship(&name(from), target, hint) {
        Ok(relationship) => shown(&relationship),
        Err(RelationshipError::None { .. }) => "none".into(),
        Err(RelationshipError::Ambiguous { found, .. }) => {
            found.iter().map(|relationship| shown(relationship)).collect::<Vec<_>>().join(" | ")
        }
    }
}

#[tokio::test]
async fn targets_and_hints_mean_what_they_mean_upstream() {
    let catalog = fixtures().await;
    let cases = [
        // By name, constraint and column.
        ("projects", "clients", "clients one client client_id=id"),
        ("projects", "client", "clients one client client_id=id"),
        ("projects", "client_id", "clients one client client_id=id"),
        ("clients", "projects", "projects many client id=client_id"),
        ("clients", "projects!client", "projects many client id=client_id"),
        ("clients", "projects!client_id", "projects many client id=client_id"),
        ("clients", "projects!id", "projects many client id=client_id"),
        ("clients", "projects!nothing", "none"),
        ("clients", "client", "projects many client id=client_id"),
        ("clients", "id", "projects many client id=client_id"),
        ("users", "tasks", "tasks many over users_tasks id=user_id / task_id=id"),
        ("users", "tasks!users_tasks", "tasks many over users_tasks id=user_id / task_id=id"),
        ("users", "tasks!task_id", "none"),
        ("orders", "billing", "addresses one billing billing_address_id=id"),
        ("orders", "shipping_address_id", "addresses one shipping shipping_address_id=id"),
        ("orders", "addresses!shipping", "addresses one shipping shipping_address_id=id"),
        ("sites", "main_project", "big_projects one main_project main_project_id=big_project_id"),
        ("sites", "big_projects!jobs", "big_projects many over jobs site_id=site_id / big_project_id=big_project_id"),
        (
            "sites",
            "big_projects!main_jobs",
            "big_projects many over main_jobs site_id=site_id / big_project_id=big_project_id",
        ),
        ("message", "sender", "person one message_sender_fkey sender=id"),
        ("message", "person_detail!message_sender_fkey", "person_detail one message_sender_fkey sender=id"),
        ("message", "person_detail!recipient", "person_detail one message_recipient_fkey recipient=id"),
        ("message", "person!space", "none"),
        // Views.
        ("projects_view", "clients", "clients one client client_id=id"),
        ("projects_view_alt", "clients", "clients one client t_client_id=id"),
        ("projects_view_alt", "t_client_id", "clients one client t_client_id=id"),
        ("materialized_projects", "clients", "clients one client client_id=id"),
        ("clients", "materialized_projects", "materialized_projects many client id=client_id"),
        ("tasks", "projects_view!project", "projects_view one project project_id=id"),
        ("tasks", "projects_view_alt!project_id", "projects_view_alt one project project_id=t_id"),
        ("actors", "films", "films many over personnages id=role_id / film_id=id"),
        ("books_above", "actors", "actors one books_author_id_fkey the \\writer=id"),
        ("odd_books", "actors", "actors one books_author_id_fkey author_id=id"),
        ("joined_books", "actors", "actors one books_author_id_fkey author_id=id"),
        ("joined_books", "films", "none"),
        ("self_recursive_view", "clients", "none"),
        ("simple_v1", "simple_v2!t1_id1", "simple_v2 many simple_t2_t1_id_fkey id=t1_id1"),
        ("simple_v2", "simple_v1!t1_id2", "simple_v1 one simple_t2_t1_id_fkey t1_id2=id"),
        ("v2", "v1", "v1 one b_c1_c2_fkey c1=c1,c2=c2"),
        // One to one.
        ("students_info", "students", "students same students_info_id_code_fkey id=id,code=code"),
        ("students", "students_info", "students_info its one students_info_id_code_fkey id=id,code=code"),
        ("country", "capital", "capital its one capital_country_id_fkey id=country_id"),
        ("capital", "country", "country same capital_country_id_fkey country_id=id"),
        ("first", "second_id_1", "second same first_second_id_1_fkey second_id_1=id"),
        // To itself.
        ("family_tree", "family_tree", "family_tree many pptr id=parent"),
        ("family_tree", "parent", "family_tree one pptr parent=id"),
        ("family_tree", "family_tree!parent", "family_tree many pptr id=parent"),
        ("family_tree", "pptr", "none"),
        ("organizations", "organizations!auditor", "organizations many organizations_auditor_fkey id=auditor"),
        ("organizations", "referee", "organizations one organizations_referee_fkey referee=id"),
        ("job", "parent_id", "job one parent_fk parent_id=id"),
        ("job", "job!parent_id", "job many parent_fk id=parent_id"),
        // What is not exposed stays out.
        ("end_1", "end_2", "none"),
        ("end_1", "junction", "none"),
        // Partitions.
        ("car_models", "car_brands", "car_brands one car_models_car_brand_name_fkey car_brand_name=name"),
        (
            "car_models",
            "car_model_sales",
            "car_model_sales many car_model_sales_car_model_name_car_model_year_fkey name=car_model_name,year=car_model_year",
        ),
        (
            "car_racers",
            "car_models",
            "car_models one car_racers_car_model_name_car_model_year_fkey car_model_name=name,car_model_year=year",
        ),
        ("car_models_2021", "car_brands", "none"),
        // Computed.
        ("videogames", "computed_designers", "designers one by computed_designers"),
        ("videogames", "computed_designers_noset", "designers one by computed_designers_noset"),
        ("videogames", "designers", "designers one by designers"),
        ("videogames", "designer_id", "none"),
        ("videogames", "hidden", "none"),
        ("designers", "computed_videogames", "videogames many by computed_videogames"),
        ("designers", "videogames", "videogames many videogames_designer_id_fkey id=designer_id"),
        ("web_content", "child_web_content", "web_content many by child_web_content"),
        ("web_content", "p_web_id", "web_content one web_content_p_web_id_fkey p_web_id=id"),
        // Several.
        (
            "agents",
            "departments",
            "departments many departments_head_id_fkey id=head_id | departments one agents_department_id_fkey department_id=id",
        ),
    ];
    for (from, target, expected) in cases {
        assert_eq!(embed(&catalog, from, target), expected, "{from} embeds {target}");
    }
}

fn refusal(catalog: &Catalog, from: &str, target: &str, hint: Option<&str>) -> Value {
    let error = catalog.relationship(&name(from), target, hint).unwrap_err();
    json!({ "code": error.code(), "details": error.details(), "hint": error.hint(), "message": error.to_string() })
}

#[tokio::test]
async fn ambiguous_requests_are_explained_as_upstream_explains_them() {
    let catalog = fixtures().await;
    assert_eq!(
        refusal(&catalog, "sites", "big_projects", None),
        json!({
            "details": [
                {
                    "cardinality": "many-to-one",
                    "relationship": "main_project using sites(main_project_id) and big_projects(big_project_id)",
                    "embedding": "sites with big_projects"
                },
                {
                    "cardinality": "many-to-many",
                    "relationship": "jobs using jobs_site_id_fkey(site_id) and jobs_big_project_id_fkey(big_project_id)",
                    "embedding": "sites with big_projects"
                },
                {
                    "cardinality": "many-to-many",
                    "relationship":
                        "main_jobs using jobs_site_id_fkey(site_id) and jobs_big_project_id_fkey(big_project_id)",
                    "embedding": "sites with big_projects"
                }
            ],
            "hint": "Try changing 'big_projects' to one of the following: 'big_projects!main_project', \
                     'big_projects!jobs', 'big_projects!main_jobs'. Find the desired relationship in the 'details' key.",
            "message": "Could not embed because more than one relationship was found for 'sites' and 'big_projects'",
            "code": "PGRST201"
        })
    );
    let details = |from, target| refusal(&catalog, from, target, None)["details"].clone();
    assert_eq!(
        details("first", "second"),
        json!([
            {
                "cardinality": "one-to-one",
                "embedding": "first with second",
                "relationship": "first_second_id_1_fkey using first(second_id_1) and second(id)"
            },
            {
                "cardinality": "one-to-one",
                "embedding": "first with second",
                "relationship": "first_second_id_2_fkey using first(second_id_2) and second(id)"
            }
        ])
    );
    let texts = |details: Value| -> Vec<String> {
        details.as_array().unwrap().iter().map(|one| one["relationship"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        texts(details("composite_v2", "composite_v1")),
        [
            "composite_fkey using composite_v2(t1_a1, t1_b1) and composite_v1(a, b)",
            "composite_fkey using composite_v2(t1_a1, t1_b2) and composite_v1(a, b)",
            "composite_fkey using composite_v2(t1_a2, t1_b1) and composite_v1(a, b)",
            "composite_fkey using composite_v2(t1_a2, t1_b2) and composite_v1(a, b)",
        ]
    );
    assert_eq!(
        texts(details("whatev_sites", "whatev_projects")),
        [
            "whatev_jobs using whatev_jobs_site_id_1_fkey(site_id_1) and whatev_jobs_project_id_1_fkey(project_id_1)",
            "whatev_jobs using whatev_jobs_site_id_1_fkey(site_id_1) and whatev_jobs_project_id_2_fkey(project_id_2)",
            "whatev_jobs using whatev_jobs_site_id_2_fkey(site_id_2) and whatev_jobs_project_id_1_fkey(project_id_1)",
            "whatev_jobs using whatev_jobs_site_id_2_fkey(site_id_2) and whatev_jobs_project_id_2_fkey(project_id_2)",
        ]
    );
}

#[tokio::test]
async fn a_relationship_that_is_not_there_is_explained() {
    let catalog = fixtures().await;
    assert_eq!(
        refusal(&catalog, "message", "person", Some("space")),
        json!({
            "code": "PGRST200",
            "message": "Could not find a relationship between 'message' and 'person' in the schema cache",
            "details": "Searched for a foreign key relationship between 'message' and 'person' using the hint 'space' \
                        in the schema 'test', but no matches were found.",
            "hint": null
        })
    );
    assert_eq!(
        refusal(&catalog, "projects", "client_", None),
        json!({
            "code": "PGRST200",
            "message": "Could not find a relationship between 'projects' and 'client_' in the schema cache",
            "details": "Searched for a foreign key relationship between 'projects' and 'client_' in the schema 'test', \
                        but no matches were found.",
            "hint": "Perhaps you meant 'clients' instead of 'client_'."
        })
    );
    assert_eq!(
        refusal(&catalog, "project", "clients", None)["hint"],
        "Perhaps you meant 'projects' instead of 'project'."
    );
    assert_eq!(refusal(&catalog, "qqqqqqqq", "clients", None)["hint"], Value::Null);
    assert_eq!(refusal(&catalog, "projects", "noclosealternative", None)["hint"], Value::Null);
}
