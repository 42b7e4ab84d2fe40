"""The staff looks at inboxes; nobody makes a hole in one."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from asgi_app import notify
from asgi_app.models import Alert, Notification
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)


def test_looked_at_and_deleted_only_with_the_user(store_server: StoreServer) -> None:
    users = get_user_model().objects
    ann = users.create_user("ann")
    notify(ann, "a title", "a body", data={"n": 1})
    notify("no user of ours", "another")
    Alert.objects.create(key="k", topic="a.topic", raised=True)
    client = Client()
    client.force_login(users.create_superuser("root"))
    row = Notification.objects.get(title="a title")
    own = f"/admin/millpond/notification/{row.pk}"
    for page in ("inbox/", "inbox/?q=ann", "notification/", "notification/?q=ann", "alert/?q=a"):
        assert client.get(f"/admin/millpond/{page}").status_code == 200
    shown = client.get(f"{own}/change/")
    assert "a body" in shown.content.decode()
    assert "/delete/" not in shown.content.decode()
    assert client.post(f"{own}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{own}/change/", {"title": "x"}).status_code == 403
    assert client.post("/admin/millpond/notification/", {"action": "delete_selected"}).status_code in (200, 302)
    assert Notification.objects.count() == 2
    assert client.post(f"/admin/auth/user/{ann.pk}/delete/", {"post": "yes"}).status_code == 302
    assert [one.title for one in Notification.objects.all()] == ["another"]
