"""The staff sees webhooks and deliveries, and sends again; a secret it never sees."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from asgi_app.models import Webhook, WebhookDelivery
from tests.integration.webhooks.conftest import registered, told

pytestmark = pytest.mark.django_db(transaction=True)
DELIVERIES = "/admin/millpond/webhookdelivery/"


@pytest.fixture
def staff(owner: User) -> Client:
    """Logged in as somebody who may everything."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_a_secret_is_on_no_page(owner: User, staff: Client) -> None:
    """Neither in lists nor in forms, nor can one be typed in."""
    webhook = registered(owner, "https://hooks.example/", old_secret="whsec_b2xk")
    told(owner)
    delivery = WebhookDelivery.objects.get()
    paths = ["/admin/millpond/webhook/", f"/admin/millpond/webhook/{webhook.pk}/change/"]
    paths += [DELIVERIES, f"{DELIVERIES}{delivery.pk}/change/", f"{DELIVERIES}?q={webhook.pk}", f"{DELIVERIES}?q=x"]
    for path in paths:
        page = staff.get(path)
        assert page.status_code == 200, path
        assert b"whsec_" not in page.content
    assert str(delivery.pk).encode() in staff.get(f"{DELIVERIES}?q={webhook.pk}").content
    assert staff.get("/admin/millpond/webhook/add/").status_code == 403


def test_the_staff_switches_off(owner: User, staff: Client) -> None:
    """With a reason; nothing else of a webhook changes."""
    webhook = registered(owner, "https://hooks.example/")
    form = {"disabled_reason": "it is not theirs", "url": "https://other.example/", "secret": "whsec_eA=="}
    assert staff.post(f"/admin/millpond/webhook/{webhook.pk}/change/", form).status_code == 302
    changed = Webhook.objects.get()
    assert (changed.active, changed.disabled_reason) == (False, "it is not theirs")
    assert (changed.url, changed.secret) == (webhook.url, webhook.secret)


def test_the_staff_sends_again(owner: User, staff: Client) -> None:
    """What is dead or delivered, as long as its webhook is active; with the permission for it."""
    registered(owner, "https://hooks.example/")
    told(owner)
    registered(owner, "https://hooks.example/", active=False)
    row = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(status="dead", attempts=10)
    form = {"action": "redeliver", "_selected_action": [str(row.pk)]}
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_webhookdelivery"))
    looking = Client(headers={"host": "localhost"})
    looking.force_login(viewer)
    looking.post(DELIVERIES, form)
    assert WebhookDelivery.objects.get().status == "dead"
    staff.post(DELIVERIES, form)
    again = WebhookDelivery.objects.get()
    assert (again.status, again.attempts) == ("pending", 0)
    Webhook.objects.update(active=False)
    WebhookDelivery.objects.update(status="dead")
    staff.post(DELIVERIES, form)
    assert WebhookDelivery.objects.get().status == "dead"
