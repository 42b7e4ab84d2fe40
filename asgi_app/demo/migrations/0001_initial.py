import datetime

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ReplayClock",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                (
                    "now",
                    models.DateTimeField(
                        default=datetime.datetime(2014, 1, 1, 0, 0, tzinfo=datetime.UTC),
                        help_text="simulated; every flight before it has departed",
                    ),
                ),
                (
                    "speed",
                    models.PositiveIntegerField(default=600, help_text="simulated seconds per second; 0: paused"),
                ),
                ("ticked_at", models.DateTimeField(help_text="real time at which now was last set")),
            ],
        ),
        migrations.CreateModel(
            name="Flight",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("departs", models.DateTimeField(help_text="scheduled, to the minute")),
                ("day", models.DateField(help_text="the date of departs, kept for grouping")),
                ("hour", models.PositiveSmallIntegerField(help_text="the hour of departs, kept for grouping")),
                ("carrier", models.CharField(max_length=2)),
                ("number", models.PositiveSmallIntegerField()),
                ("origin", models.CharField(max_length=3)),
                ("dest", models.CharField(max_length=3)),
                ("delay", models.SmallIntegerField(help_text="minutes after the schedule; null: cancelled", null=True)),
                ("replayed", models.BooleanField(default=False, help_text="a flight of 2013 that departs again")),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["departs", "carrier", "origin", "dest", "day", "hour", "delay"],
                        name="demo_flight_covers",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("departs", "origin", "carrier", "number"), name="demo_flight_once")
                ],
            },
        ),
    ]
