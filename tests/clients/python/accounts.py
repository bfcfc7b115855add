"""Accounts with supabase from PyPI."""

from supabase_auth.errors import AuthApiError

from stage import SECRET, check, connect, equal, mail, person, refused

admin = connect(SECRET).auth.admin


def member():
    who = person()
    admin.create_user({**who, "email_confirm": True})
    client = connect()
    client.auth.sign_in_with_password(who)
    return client, who


@check("auth.sign_in.sign_up auth.sign_in.verify_otp", "signing up, and the code from the mail")
def _():
    client, who = connect(), person()
    answer = client.auth.sign_up({**who, "options": {"data": {"name": "Ada"}}})
    equal((answer.session, answer.user.email), (None, who["email"]))
    refused(AuthApiError, lambda: connect().auth.sign_in_with_password(who), "email_not_confirmed")
    answer = client.auth.verify_otp({"email": who["email"], "token": mail(who["email"])["code"], "type": "signup"})
    equal((answer.user.email, answer.session.token_type), (who["email"], "bearer"))


@check("auth.sign_in.sign_in_with_password auth.session.get_user", "signing in")
def _():
    client, who = member()
    equal(client.auth.get_user().user.email, who["email"])
    refused(AuthApiError, lambda: connect().auth.sign_in_with_password({**who, "password": "wrong"}), "invalid_credentials")


@check("auth.sign_in.sign_in_with_otp", "a code by mail")
def _():
    _client, who = member()
    client = connect()
    client.auth.sign_in_with_otp({"email": who["email"]})
    equal(client.auth.verify_otp({"email": who["email"], "token": mail(who["email"])["code"], "type": "email"}).user.email, who["email"])


@check("auth.session.refresh_session auth.session.set_session auth.session.sign_out", "sessions")
def _():
    client, who = member()
    old = client.auth.get_session()
    new = client.auth.refresh_session().session
    assert new.refresh_token != old.refresh_token
    equal(connect().auth.set_session(new.access_token, new.refresh_token).user.email, who["email"])
    client.auth.sign_out()
    equal(client.auth.get_session(), None)
    refused(AuthApiError, lambda: connect().auth.get_user(new.access_token), "session_not_found")


@check("auth.session.update_user auth.identities.list_identities", "somebody changes themselves")
def _():
    client, who = member()
    equal(client.auth.update_user({"data": {"a": 1}}).user.user_metadata["a"], 1)
    equal([one.provider for one in client.auth.get_user_identities().identities], ["email"])
    client.table("diary").insert({"line": "in Python"}).execute()
    equal(client.table("diary").select("line").execute().data, [{"line": "in Python"}])


@check("auth.sign_in.sign_in_anonymously auth.session.get_claims", "without an address")
def _():
    client = connect()
    equal(client.auth.sign_in_anonymously().user.is_anonymous, True)
    equal(client.auth.get_claims()["claims"]["is_anonymous"], True)


@check("auth.mfa.enroll auth.mfa.list_factors auth.mfa.unenroll", "an authenticator")
def _():
    client, _who = member()
    factor = client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "phone"})
    assert factor.totp.uri.startswith("otpauth://totp/")
    refused(AuthApiError, lambda: client.auth.mfa.challenge_and_verify({"factor_id": factor.id, "code": "000000"}), "mfa_verification_failed")
    client.auth.mfa.unenroll({"factor_id": factor.id})
    equal(client.auth.mfa.list_factors().all, [])


@check("auth.admin.create_user auth.admin.list_users auth.admin.update_user auth.admin.delete_user", "an admin")
def _():
    user = admin.create_user({**person(), "email_confirm": True, "user_metadata": {"a": 1}}).user
    equal(admin.get_user_by_id(user.id).user.user_metadata["a"], 1)
    equal(admin.update_user_by_id(user.id, {"app_metadata": {"plan": "large"}}).user.app_metadata["plan"], "large")
    equal(len(admin.list_users(page=1, per_page=1)), 1)
    admin.delete_user(user.id)
    refused(AuthApiError, lambda: admin.get_user_by_id(user.id), "user_not_found")


@check("auth.admin.generate_link auth.admin.invite_user auth.sign_in.reset_password", "links")
def _():
    _client, who = member()
    link = admin.generate_link({"type": "recovery", "email": who["email"]}).properties
    equal(connect().auth.verify_otp({"token_hash": link.hashed_token, "type": "recovery"}).user.email, who["email"])
    connect().auth.reset_password_for_email(who["email"])
    assert "type=recovery" in mail(who["email"])["link"]
    guest = person()["email"]
    admin.invite_user_by_email(guest)
    assert "type=invite" in mail(guest)["link"]
