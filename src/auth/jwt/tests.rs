//! Tokens that must be refused (RFC 8725 and the collections of known attacks), and those that must not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::*;
use crate::secret::Secret;

const NOW: u64 = 1_795_000_000;
const SECRET: &str = "reallyreallyreallyreallyverysafe";

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with any header and payload, signed with HS256 under `secret`.
fn hs256(header: &Value, payload: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(payload));
    let signature = crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn with_secret() -> Keys {
    Keys::ephemeral(Settings { secret: Secret::new(SECRET), ..Settings::default() })
}

fn refusal(keys: &Keys, token: &str) -> Invalid {
    keys.verify_at(token, NOW).expect_err(token)
}

#[test]
fn what_is_signed_is_verified_and_the_header_names_the_key() {
    let key = generate(Status::Current).unwrap();
    let keys = Keys::new(Settings::default(), std::slice::from_ref(&key)).unwrap();
    let claims = json!({ "sub": "ann", "exp": NOW + 60, "n": 1.5, "deep": { "a": [1, null] } });
    let token = keys.sign(&claims).unwrap();
    assert_eq!(Value::Object(keys.verify_at(&token, NOW).unwrap().into_object()), claims);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT", "kid": key.id }));
    assert_eq!(keys.verify_at(&token, NOW + 91), Err(Invalid::Expired));
}

/// RFC 7515 appendix A.1 and A.3, and the token of PostgREST's own tests for RS256.
#[test]
fn published_tokens_are_verified() {
    let secret = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let a1 = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
              cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let token = token::Token::parse(a1).unwrap();
    let verifier = key::Verifier::from_secret(None, &secret);
    token.find([(&verifier, ())].into_iter()).unwrap();
    assert_eq!(token.claims().unwrap().text("iss"), Some("joe"));

    let p256 = json!({ "keys": [{ "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }] });
    let a3 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290I\
              jp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let set = KeySet::parse(p256.to_string().as_bytes()).unwrap();
    assert_eq!(set.open(a3).unwrap().expires(), Some(1_300_819_380));
    assert_eq!(set.open(a1), Err(Invalid::NoKey));

    let rsa = json!({ "keys": [{ "alg": "RS256", "e": "AQAB", "key_ops": ["verify"], "kty": "RSA", "use": "sig",
        "n": "0etQ2Tg187jb04MWfpuogYGV75IFrQQBxQaGH75eq_FpbkyoLcEpRUEWSbECP2eeFya2yZ9vIO5ScD-lPmovePk4Aa4SzZ8jdjhmAbNykl\
              eRPCxMg0481kz6PQhnHRUv3nF5WP479CnObJKqTVdEagVL66oxnX9VhZG9IZA7k0Th5PfKQwrKGyUeTGczpOjaPqbxlunP73j9AfnAt4XCS8e\
              pa-n3WGz1j-wfpr_ys57Aq-zBCfqP67UYzNpeI1AoXsJhD9xSDOzvJgFRvc3vm2wjAW4LEMwi48rCplamOpZToIHEPIaPzpveYQwDnB1HFTR1\
              ove9bpKJsHmi-e2uzQ" }] });
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJyb2xlIjogInBvc3RncmVzdF90ZXN0X2F1dGhvciJ9Cg.CBOYWDvqgAR0YYnZnyDGTQi6AJLc2Pds6_e\
                 V3YuBG6I36mj_h05eLhkEKNEDA5ZteMzCiY83P60rC_xtxVd7B6vo3BeF5uoanPS3rrbuHzKPwzsrgrD_CqvEuJ4n7Q9epkQiLsNkcexneE\
                 NZDRqFjbwZx3DrXiCWwlK3Ytr5NAIGxmy0od-0xNpb2U1nXQyO_Q3mumWFViRt4tmFn_3goDHNKG3Ha_AzImfUNvHnWL78kAc4rbn15vLtW\
                 XD8PwtSnZaB4lY4V6RfsaW937srQsmRetvytM1i_bHBnjkjQLAqGbXPyItjtlXPs0uGNBadE8-wgkLtfmSCC4v2DjUthw";
    let set = KeySet::parse(rsa.to_string().as_bytes()).unwrap();
    assert_eq!(set.open(token).unwrap().text("role"), Some("postgrest_test_author"));
    // The RSA key as the secret of an HMAC: the classic swap.
    let swapped = hs256(&json!({ "alg": "HS256" }), r#"{"role":"x"}"#, rsa.to_string().as_bytes());
    assert_eq!(set.open(&swapped), Err(Invalid::NoKey));
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let keys = with_secret();
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = encode(json!({ "alg": alg }).to_string());
        for signature in ["", "x", "AAAA"] {
            let token = format!("{header}.{}.{signature}", encode(r#"{"role":"service_role"}"#));
            assert_eq!(refusal(&keys, &token), Invalid::Unsecured, "{token}");
        }
    }
    let stripped = hs256(&json!({ "alg": "HS256" }), "{}", SECRET.as_bytes());
    let stripped = &stripped[..=stripped.rfind('.').unwrap()];
    assert_eq!(refusal(&keys, stripped), Invalid::Signature);
    assert_eq!(Invalid::Unsecured.message(), "Wrong or unsupported encoding algorithm");
}

/// The public key in every form that somebody might take for the secret.
#[test]
fn the_public_key_is_no_secret() {
    let key = generate(Status::Current).unwrap();
    for secret in [Secret::default(), Secret::new(SECRET)] {
        let keys = Keys::new(Settings { secret, ..Settings::default() }, std::slice::from_ref(&key)).unwrap();
        let x = URL_SAFE_NO_PAD.decode(key.public_jwk["x"].as_str().unwrap()).unwrap();
        let y = URL_SAFE_NO_PAD.decode(key.public_jwk["y"].as_str().unwrap()).unwrap();
        let point = [&[4], &x[..], &y[..]].concat();
        let id = key.id.to_string();
        for public in [
            keys.jwks().as_bytes().to_vec(),
            key.public_jwk.to_string().into_bytes(),
            point.clone(),
            point[1..].to_vec(),
            x,
            Vec::new(),
            id.clone().into_bytes(),
        ] {
            for header in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": id })] {
                let token = hs256(&header, r#"{"role":"service_role"}"#, &public);
                assert!(matches!(refusal(&keys, &token), Invalid::NoKey | Invalid::Signature), "{token}");
            }
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let keys = with_secret();
    let signed = |alg: &str| hs256(&json!({ "alg": alg }), "{}", SECRET.as_bytes());
    for alg in ["HS384", "HS512", "RS256", "PS256", "ES384", "EdDSA"] {
        assert_eq!(refusal(&keys, &signed(alg)), Invalid::NoKey, "{alg}");
    }
    assert_eq!(refusal(&keys, &signed("ES256")), Invalid::Signature);
    for alg in ["hs256", "HS256 ", "RS1", "", "ES256K", "dir", "A256KW"] {
        assert!(matches!(refusal(&keys, &signed(alg)), Invalid::Algorithm(_)), "{alg}");
    }
    for header in [json!({}), json!({ "alg": null }), json!({ "alg": ["HS256"] }), json!([]), json!("HS256")] {
        assert_eq!(refusal(&keys, &hs256(&header, "{}", SECRET.as_bytes())), Invalid::Malformed, "{header}");
    }
}

#[test]
fn a_key_identifier_chooses_among_known_keys_and_is_nothing_else() {
    let key = generate(Status::Current).unwrap();
    let keys = Keys::new(Settings::default(), std::slice::from_ref(&key)).unwrap();
    let private = EncodingKey::from_ec_pem(key.private_key.expose().as_bytes()).unwrap();
    let signed_by = |private: &EncodingKey, header: Value| {
        let signed = format!("{}.{}", encode(header.to_string()), encode("{}"));
        format!("{signed}.{}", crypto::sign(signed.as_bytes(), private, Algorithm::ES256).unwrap())
    };
    assert!(keys.verify_at(&signed_by(&private, json!({ "alg": "ES256" })), NOW).is_ok());
    for kid in ["../../dev/null", "' or 1=1 --", "", &"x".repeat(9_000), "00000000-0000-0000-0000-000000000000"] {
        let token = signed_by(&private, json!({ "alg": "ES256", "kid": kid }));
        assert_eq!(refusal(&keys, &token), Invalid::NoKey, "{kid}");
    }
    assert_eq!(refusal(&keys, &signed_by(&private, json!({ "alg": "ES256", "kid": 7 }))), Invalid::Malformed);

    // Keys that come with the token are not looked at.
    let theirs = generate(Status::Current).unwrap();
    let stranger = EncodingKey::from_ec_pem(theirs.private_key.expose().as_bytes()).unwrap();
    for header in [
        json!({ "alg": "ES256", "jwk": theirs.public_jwk }),
        json!({ "alg": "ES256", "jwk": theirs.public_jwk, "kid": key.id }),
        json!({ "alg": "ES256", "jku": "https://evil.example/jwks.json" }),
        json!({ "alg": "ES256", "x5u": "https://evil.example/x.pem", "x5c": ["AAAA"] }),
    ] {
        assert_eq!(refusal(&keys, &signed_by(&stranger, header)), Invalid::Signature);
    }
    // And one of another key's name is not verified with it.
    let both =
        Keys::new(Settings::default(), &[key.clone(), StoredKey { status: Status::Next, ..theirs.clone() }]).unwrap();
    assert!(both.verify_at(&signed_by(&stranger, json!({ "alg": "ES256", "kid": theirs.id })), NOW).is_ok());
    assert_eq!(refusal(&both, &signed_by(&stranger, json!({ "alg": "ES256", "kid": key.id }))), Invalid::Signature);
}

#[test]
fn other_shapes_are_refused_with_the_words_of_postgrest() {
    let keys = with_secret();
    let good = hs256(&json!({ "alg": "HS256" }), r#"{"role":"ann"}"#, SECRET.as_bytes());
    assert!(keys.verify_at(&good, NOW).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    for (token, right) in [
        (String::new(), Invalid::Empty),
        ("x".into(), Invalid::Parts(1)),
        ("ey9zdGdy.y4vZuu1d".into(), Invalid::Parts(2)),
        // Two signatures, and an encrypted token.
        (format!("{good}.{}", parts[2]), Invalid::Parts(4)),
        (format!("{good}.a.b"), Invalid::Parts(5)),
        ("..".into(), Invalid::Malformed),
        ("a.b.c".into(), Invalid::Malformed),
        (format!(" {good}"), Invalid::Malformed),
        (format!("{good} "), Invalid::Signature),
        (format!("{good}\n"), Invalid::Signature),
        (format!("{good}="), Invalid::Signature),
        (format!("{}.{} .{}", parts[0], parts[1], parts[2]), Invalid::Signature),
        (format!("{}=.{}.{}", parts[0], parts[1], parts[2]), Invalid::Malformed),
        (format!("{}.{}.", parts[0], parts[1]), Invalid::Signature),
        (format!("{}.{}.{}", parts[0], encode(r#"{"role":"eve"}"#), parts[2]), Invalid::Signature),
        (format!("{}.{}", "x".repeat(LONGEST), "y"), Invalid::TooLong(LONGEST + 2)),
        // The JSON forms of RFC 7515 section 7.2.
        (r#"{"payload":"e30","signatures":[]}"#.into(), Invalid::Parts(1)),
        (
            hs256(&json!({ "alg": "HS256", "crit": ["exp"] }), "{}", SECRET.as_bytes()),
            Invalid::Kind("The header has \"crit\", and no extension is supported"),
        ),
        (
            hs256(&json!({ "alg": "HS256", "crit": [] }), "{}", SECRET.as_bytes()),
            Invalid::Kind("The header has \"crit\", and no extension is supported"),
        ),
        (
            hs256(&json!({ "alg": "HS256", "typ": "secevent+jwt" }), "{}", SECRET.as_bytes()),
            Invalid::Kind("The header's \"typ\" is not JWT"),
        ),
        (hs256(&json!({ "alg": "HS256" }), "[]", SECRET.as_bytes()), Invalid::Claims),
        (hs256(&json!({ "alg": "HS256" }), "\"role\"", SECRET.as_bytes()), Invalid::Claims),
        (hs256(&json!({ "alg": "HS256" }), "", SECRET.as_bytes()), Invalid::Claims),
        // Nested so deep that a parser without a limit would run out of stack.
        (hs256(&json!({ "alg": "HS256" }), &"[".repeat(9_000), SECRET.as_bytes()), Invalid::Claims),
        (hs256(&json!({ "alg": "HS256", "cty": "JWT" }), &good, SECRET.as_bytes()), Invalid::Claims),
    ] {
        assert_eq!(refusal(&keys, &token), right, "{token}");
    }
    let twice = format!("{}.{}", encode(r#"{"alg":"HS256","alg":"none"}"#), encode("{}"));
    assert_eq!(refusal(&keys, &format!("{twice}.")), Invalid::Malformed);
    assert_eq!(Invalid::Parts(2).message(), "Expected 3 parts in JWT; got 2");
    assert_eq!((Invalid::Parts(2).code(), Invalid::Expired.code()), ("PGRST301", "PGRST303"));
}

/// The last character of a signature of 32 bytes carries two bits that mean nothing: only one form is right, or a
/// token would have several names and a refusal by name could be passed by.
#[test]
fn a_signature_has_one_spelling() {
    let keys = with_secret();
    let good = hs256(&json!({ "alg": "HS256" }), "{}", SECRET.as_bytes());
    let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .filter(|last| keys.verify_at(&format!("{}{last}", &good[..good.len() - 1]), NOW).is_ok());
    assert_eq!(spellings.count(), 1);
}

#[test]
fn rotation_keeps_what_was_signed_until_the_key_is_revoked() {
    let (old, new) = (generate(Status::Current).unwrap(), generate(Status::Next).unwrap());
    let as_ = |key: &StoredKey, status| StoredKey { status, ..key.clone() };
    let keys = Keys::new(Settings::default(), &[old.clone(), new.clone()]).unwrap();
    let token = keys.sign(&json!({ "exp": NOW + 60 })).unwrap();
    let names = |keys: &Keys| {
        let set: Value = serde_json::from_str(&keys.jwks()).unwrap();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&keys), [old.id.to_string(), new.id.to_string()], "the next key is published before it signs");

    keys.replace(&[as_(&old, Status::Previous), as_(&new, Status::Current)]).unwrap();
    assert!(keys.verify_at(&token, NOW).is_ok());
    assert_eq!(keys.epoch(), 0, "nothing that was verified is void");
    let newer = keys.sign(&json!({ "exp": NOW + 60 })).unwrap();
    assert_ne!(token.split('.').next(), newer.split('.').next());

    keys.replace(&[as_(&old, Status::Revoked), as_(&new, Status::Current)]).unwrap();
    assert_eq!(keys.verify_at(&token, NOW), Err(Invalid::NoKey));
    assert!(keys.verify_at(&newer, NOW).is_ok());
    assert_eq!(keys.epoch(), 1);
    assert_eq!(names(&keys), [new.id.to_string()]);

    // A set that cannot be used changes nothing.
    let broken = StoredKey { public_jwk: old.public_jwk.clone(), ..new.clone() };
    assert!(matches!(keys.replace(&[broken]), Err(KeyError::Private(_))));
    assert!(keys.verify_at(&newer, NOW).is_ok());
}

#[test]
fn the_published_set_holds_no_private_part() {
    let mut key = generate(Status::Current).unwrap();
    key.public_jwk["d"] = json!("secret");
    let keys = Keys::new(Settings { secret: Secret::new(SECRET), ..Settings::default() }, &[key]).unwrap();
    let set: Value = serde_json::from_str(&keys.jwks()).unwrap();
    let names: Vec<&String> = set["keys"][0].as_object().unwrap().keys().collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    assert!(!keys.jwks().contains(SECRET));
}

#[test]
fn the_shared_secret_signs_when_asked() {
    let settings = Settings { secret: Secret::new(SECRET), signing: Signing::Hs256, ..Settings::default() };
    let keys = Keys::new(settings, &[]).unwrap();
    let token = keys.sign(&json!({ "role": "ann" })).unwrap();
    assert_eq!(token, hs256(&json!({ "alg": "HS256", "typ": "JWT" }), r#"{"role":"ann"}"#, SECRET.as_bytes()));
    assert!(keys.verify_at(&token, NOW).is_ok());
    assert!(with_secret().verify_at(&token, NOW).is_ok());
    assert_eq!(refusal(&Keys::ephemeral(Settings::default()), &token), Invalid::NoKey);
}

#[test]
fn a_token_for_another_purpose_is_no_access_token() {
    let keys = with_secret();
    let token = keys.sign_as("beacon-url+jwt", &json!({ "url": "a/b" })).unwrap();
    assert!(matches!(refusal(&keys, &token), Invalid::Kind(_)));
}

#[test]
fn an_issuers_key_signs_for_that_issuer_and_audience_alone() {
    let theirs = generate(Status::Current).unwrap();
    let their_keys = Keys::new(Settings::default(), std::slice::from_ref(&theirs)).unwrap();
    let issuer = Issuer {
        issuer: "https://id.example".into(),
        audience: vec!["app".into()],
        keys: their_keys.jwks().to_string(),
    };
    let ours = Keys::ephemeral(Settings { issuers: vec![issuer], audience: vec!["us".into()], ..Settings::default() });
    let good = json!({ "iss": "https://id.example", "aud": "app", "exp": NOW + 60 });
    let check = |change: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ours.verify_at(&their_keys.sign(&claims).unwrap(), NOW)
    };
    assert!(check(json!({})).is_ok());
    assert_eq!(check(json!({ "iss": "https://evil.example" })), Err(Invalid::Issuer));
    assert_eq!(check(json!({ "iss": null })), Err(Invalid::Issuer));
    assert_eq!(check(json!({ "aud": "us" })), Err(Invalid::Audience));
    assert_eq!(check(json!({ "aud": null })), Err(Invalid::Audience));
    assert_eq!(check(json!({ "exp": null })), Err(Invalid::NotNumber("exp")));
}

#[test]
fn a_set_is_read_key_by_key() {
    let good = generate(Status::Current).unwrap().public_jwk;
    let with = |change: Value| {
        let mut key = good.clone();
        key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "keys": [key] }).to_string()
    };
    assert!(KeySet::parse(with(json!({})).as_bytes()).is_ok());
    assert!(KeySet::parse(json!({ "keys": [{ "kty": "new" }, good] }).to_string().as_bytes()).is_ok());
    for useless in [
        json!({ "use": "enc" }),
        json!({ "key_ops": ["sign"] }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES384" }),
        json!({ "crv": "secp256k1" }),
    ] {
        assert!(matches!(KeySet::parse(with(useless.clone()).as_bytes()), Err(KeyError::Empty)), "{useless}");
    }
    let oct = json!({ "keys": [good, { "kty": "oct", "k": "AAAA" }] }).to_string();
    assert!(matches!(KeySet::parse(oct.as_bytes()), Err(KeyError::Symmetric)));
    assert!(matches!(KeySet::parse(b"{}"), Err(KeyError::Form(_))));
    assert!(matches!(KeySet::parse(br#"{"keys":[]}"#), Err(KeyError::Empty)));
    let many = json!({ "keys": vec![good; 65] }).to_string();
    assert!(matches!(KeySet::parse(many.as_bytes()), Err(KeyError::TooMany)));
}
