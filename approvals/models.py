"""What Countersign keeps: reviews (a projection of the checkpoints), decisions, the audit trail."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchVector, SearchVectorField
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.tuple_lookups import TupleGreaterThan
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

# Postgres would read the end of "demo-0042" as the number -42.
_PARTED_ID = models.Func(
    F("thread_id"),
    models.Value("-_:./"),
    models.Value("     "),
    function="translate",
    output_field=models.TextField(),
)


_NOT_PUT_OFF = Q(snoozed_until=None) | Q(snoozed_until__lte=Now())


def has_words(text: str) -> Q:
    """Every word of `text`, each taken as a beginning.

    A word is quoted whole, so that Postgres takes it apart as it did the text: an e-mail address,
    O'Brien, an id.
    """
    words = [word for word in text.split() if any(c.isalnum() for c in word)][:20]
    terms = ["'" + w.replace("\\", "\\\\").replace("'", "''") + "':*" for w in words]
    query = SearchQuery(" & ".join(terms), config="simple", search_type="raw")
    return Q(search=query) if terms else Q()


class ReviewQuerySet(models.QuerySet["Review"]):
    def waiting(self) -> "ReviewQuerySet":
        return self.filter(status=Review.Status.WAITING)

    def awake(self) -> "ReviewQuerySet":
        """Waiting, and not put off to later."""
        return self.waiting().filter(_NOT_PUT_OFF)

    def free_for(self, user: Any) -> "ReviewQuerySet":
        """Those that nobody else holds, nor is meant to decide."""
        unheld = Q(claimed_until=None) | Q(claimed_until__lte=Now()) | Q(claimed_by=user)
        group = Q(assigned_group=None) | Q(assigned_group__in=user.groups.all())
        return self.filter(unheld, group, Q(assigned_to=None) | Q(assigned_to=user))

    def listed(self) -> "ReviewQuerySet":
        """For lists: without the snapshot, which may be megabytes."""
        return self.defer("snapshot", "search")

    def oldest_first(self, after: tuple[Any, int] | None = None) -> "ReviewQuerySet":
        """Ordered by age; `after` is the (waiting_since, id) of the last row already shown."""
        rows = self.order_by("waiting_since", "id")
        if after is None:
            return rows
        return rows.filter(TupleGreaterThan((F("waiting_since"), F("id")), after))

    def search(self, text: str) -> "ReviewQuerySet":
        """Reviews with every word of `text`, each taken as a beginning."""
        return self.filter(has_words(text))


def _person(**options: Any) -> Any:
    """A column that names a person; people who have acted are never deleted."""
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        **options,
    )


class Review(models.Model):
    """One pause that waits for a person, and what they are shown of it.

    Rebuilt from the checkpoints at any time; only `status` knows more than they do.
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        STALLED = "stalled"  # not a pause: the run broke off, and waits for an admin
        DECIDED = "decided"
        SUPERSEDED = "superseded"  # the thread moved on, or was deleted, behind our back

    class Kind(models.TextChoices):
        BEFORE = "before"  # a node, by interrupt_before
        AFTER = "after"  # a node, by interrupt_after
        QUESTION = "question"  # asked with interrupt()
        STALLED = "stalled"
        UNKNOWN = "unknown"  # of a graph that nobody registered

    graph = models.TextField(blank=True)  # "" is a graph that nobody registered
    thread_id = models.TextField()
    checkpoint_ns = models.TextField(blank=True)
    checkpoint_id = models.TextField()
    interrupt_id = models.TextField(blank=True)
    # Where the whole thread stood; a pause in a subgraph has a checkpoint of its own.
    root_checkpoint_id = models.TextField(blank=True)
    kind = models.TextField(choices=Kind, default=Kind.BEFORE)
    node = models.TextField()
    # The decision whose run led here; a draft that was sent back comes again as the next round.
    follows = models.ForeignKey(
        "approvals.Decision", on_delete=models.PROTECT, related_name="next_reviews", null=True
    )
    round = models.PositiveIntegerField(default=1)
    status = models.TextField(choices=Status, default=Status.WAITING)
    ended_because = models.TextField(blank=True)
    title = models.TextField()
    who = models.TextField(blank=True)
    risk = models.TextField(blank=True)
    excerpt = models.TextField(blank=True)
    waiting_since = models.DateTimeField()
    captured_at = models.DateTimeField(auto_now_add=True)
    snapshot = models.JSONField()
    digest = models.CharField(max_length=64)
    # What reviews.toml takes from the state for lists: its topics, and when an answer is due.
    tags = ArrayField(models.TextField(), default=list, db_default=[])
    deadline = models.DateTimeField(null=True)
    # The claim: a short lease of one person, so that two do not edit one draft. In the row itself,
    # so that *Next* can lock, skip and take in one statement.
    claimed_by = _person(null=True)
    claimed_until = models.DateTimeField(null=True)
    claim_asked_by = _person(null=True)
    claim_asked_at = models.DateTimeField(null=True)
    # Whom it is meant for, if for anybody: a person, a group, or both.
    assigned_to = _person(null=True)
    assigned_group = models.ForeignKey(
        "auth.Group", on_delete=models.SET_NULL, related_name="+", null=True, db_index=False
    )
    # Put off for everybody until then.
    snoozed_by = _person(null=True)
    snoozed_until = models.DateTimeField(null=True)
    search = models.GeneratedField(
        expression=SearchVector("title", "who", "excerpt", _PARTED_ID, "graph", config="simple"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = ReviewQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["thread_id", "checkpoint_ns", "checkpoint_id", "interrupt_id"],
                name="review_once_per_pause",
                condition=~Q(kind="stalled"),
            ),
            models.UniqueConstraint(
                fields=["thread_id", "checkpoint_id"],
                name="review_once_per_stall",
                condition=Q(kind="stalled"),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["waiting_since", "id"],
                name="review_waiting",
                condition=Q(status="waiting"),
            ),
            models.Index(
                fields=["graph", "waiting_since", "id"],
                name="review_waiting_by_graph",
                condition=Q(status="waiting"),
            ),
            models.Index(
                fields=["waiting_since", "id"],
                name="review_stalled",
                condition=Q(status="stalled"),
            ),
            GinIndex(fields=["search"], name="review_search", condition=Q(status="waiting")),
            models.Index(
                fields=["claimed_until"],
                name="review_claimed",
                condition=Q(claimed_until__isnull=False),
            ),
            models.Index(
                fields=["snoozed_until"],
                name="review_snoozed",
                condition=Q(snoozed_until__isnull=False),
            ),
            models.Index(
                fields=["assigned_to", "waiting_since", "id"],
                name="review_assigned",
                condition=Q(status="waiting", assigned_to__isnull=False),
            ),
            # Covers what the overview counts, so that it reads no row of a month's.
            models.Index(
                fields=["captured_at"], include=["id", "graph", "kind"], name="review_arrived"
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("review", args=[self.pk])

    @property
    def is_asleep(self) -> bool:
        """Put off to later, to be shown. By this process's clock, as `holder` is."""
        return self.snoozed_until is not None and self.snoozed_until > timezone.now()

    def holder_at(self, now: Any) -> Any:
        """Who holds it then; None when nobody does, or their lease has run out."""
        held = self.claimed_until is not None and self.claimed_until > now
        return self.claimed_by if held else None

    @property
    def holder(self) -> Any:
        """Who holds it, to be shown. By this process's clock: what guards asks the database's."""
        return self.holder_at(timezone.now())

    @property
    def values(self) -> dict[str, Any]:
        """The state's values as the reviewer sees them: plain JSON. In a subgraph, its own."""
        return self.snapshot.get("values") or {}

    @property
    def pause(self) -> dict[str, Any]:
        """Of the snapshot: the nodes that wait, and the question that was asked, if one was."""
        return self.snapshot.get("pause") or {}

    @property
    def is_open(self) -> bool:
        """Whether somebody is still to decide it."""
        return self.status in {self.Status.WAITING, self.Status.STALLED}

    @property
    def is_question(self) -> bool:
        return self.kind == self.Kind.QUESTION

    @property
    def pause_is_known(self) -> bool:
        """Whether a person can answer it: not a run that broke off, nor an unknown graph's."""
        return self.kind not in {self.Kind.STALLED, self.Kind.UNKNOWN}


class Decision(models.Model):
    """What a person said of a review. Its id is the idempotency key that nodes are given."""

    class Action(models.TextChoices):
        APPROVE = "approve"
        EDIT = "edit"
        REJECT = "reject"
        SEND_BACK = "send_back"
        RESPOND = "respond"
        MIXED = "mixed"  # the calls of one question, decided one by one
        CONTINUE = "continue"  # an admin's: a stalled run
        RERUN = "rerun"  # an admin's: from an older checkpoint

    class State(models.TextChoices):
        PENDING = "pending"  # recorded; can be undone until apply_after
        UNDONE = "undone"
        APPLIED = "applied"  # aupdate_state is committed; the run goes on
        FINISHED = "finished"
        PAUSED = "paused"  # the run paused again: the next round is a review of its own
        FAILED = "failed"
        SUPERSEDED = "superseded"  # the thread moved before it could be applied

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="decisions")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    action = models.TextField(choices=Action)
    state = models.TextField(choices=State, default=State.PENDING)
    idempotency_key = models.UUIDField(unique=True)
    edits = models.JSONField(default=dict)  # field: the person's value
    values = models.JSONField()  # what aupdate_state is given: edits and what the action sets
    goto = models.TextField(blank=True)
    answer = models.JSONField(null=True)  # what interrupt() returns, if that asked
    said = models.JSONField(default=dict)  # as the form was sent: reason, choices, raw answer
    decided_at = models.DateTimeField()
    apply_after = models.DateTimeField()
    # The job is a hint where the work lies; this row is the truth.
    job_id = models.BigIntegerField(null=True)
    # Every taker of the run counts this up; a write that names an older count is refused.
    epoch = models.PositiveIntegerField(default=0)
    # Who runs it. One that is found here by another taker died, or was cut off, without a word.
    holder = models.UUIDField(null=True)
    # db_default: processes of the version before still insert while the new ones are rolled out.
    crashes = models.PositiveSmallIntegerField(default=0, db_default=0)  # takers that did, in a row
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)  # as reviews.toml allows
    checkpoint_applied = models.TextField(blank=True)
    applied_at = models.DateTimeField(null=True)
    checkpoint_after = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)
    error_node = models.TextField(blank=True)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True, db_default="")  # for admins
    # Another program's checkpoint that follows the same one as a checkpoint of this run does.
    forked_at = models.TextField(blank=True, db_default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["review"],
                name="decision_once_per_review",
                condition=~Q(state="undone"),
            )
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["apply_after"],
                name="decision_open",
                condition=Q(state__in=["pending", "applied"]),
            ),
            models.Index(fields=["review"], name="decision_failed", condition=Q(state="failed")),
            models.Index(
                fields=["checkpoint_applied"],
                name="decision_applied",
                condition=~Q(checkpoint_applied=""),
            ),
            models.Index(fields=["decided_at"], name="decision_by_time"),
            models.Index(fields=["actor", "decided_at"], name="decision_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.review_id} by {self.actor_id}"

    @property
    def is_stuck(self) -> bool:
        """Failed with nothing written to the thread: it can be decided anew."""
        return self.state == self.State.FAILED and not self.checkpoint_applied

    @property
    def awaits_try(self) -> bool:
        """A node of its run raised, and reviews.toml has it tried again by itself, later."""
        return self.state == self.State.APPLIED and self.attempts > 0 and self.holder is None

    @property
    def counts(self) -> bool:
        """Whether it is, or will be, in the thread: what a signature on the page stands for."""
        return bool(self.checkpoint_applied) or self.state == self.State.PENDING

    @property
    def is_open(self) -> bool:
        return self.state in {self.State.PENDING, self.State.APPLIED}


class AuditEntry(models.Model):
    """One line of the audit trail. A trigger refuses UPDATE, DELETE and TRUNCATE."""

    class Action(models.TextChoices):
        SIGNED_IN = "signed_in"
        SIGN_IN_FAILED = "sign_in_failed"
        SIGNED_OUT = "signed_out"
        PAUSED = "paused"
        MOVED = "moved"
        OPENED = "opened"
        DECIDED = "decided"
        UNDONE = "undone"
        APPLIED = "applied"
        FINISHED = "finished"
        PAUSED_AGAIN = "paused_again"
        FAILED = "failed"
        SUPERSEDED = "superseded"
        RETRIED = "retried"
        REFUSED = "refused"
        STALLED = "stalled"
        CONTINUED = "continued"
        ENDED = "ended"
        DELETED = "deleted"
        FORKED = "forked"
        FORK_SEEN = "fork_seen"
        CLAIMED = "claimed"
        RELEASED = "released"
        ASKED_FOR = "asked_for"
        TAKEN_OVER = "taken_over"
        ASSIGNED = "assigned"
        SNOOZED = "snoozed"
        WOKEN = "woken"
        NOTED = "noted"
        SETTINGS = "settings"  # saved replies and shared views: what others see as well

    at = models.DateTimeField(db_default=Now())
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True
    )
    actor_name = models.TextField(blank=True)  # as it was then; a machine's for its own acts
    action = models.TextField(choices=Action)
    address = models.GenericIPAddressField(null=True)
    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="+", null=True)
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="+", null=True)
    thread_id = models.TextField(blank=True)
    checkpoint_before = models.TextField(blank=True)
    checkpoint_after = models.TextField(blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    note = models.TextField(blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["actor", "-id"], name="audit_by_actor"),
            models.Index(fields=["action", "-id"], name="audit_by_action"),
            models.Index(fields=["thread_id", "-id"], name="audit_by_thread"),
            models.Index(fields=["at"], name="audit_by_time"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.id} {self.actor_name} {self.action}"


class ThreadChange(models.Model):
    """A thread whose checkpoints changed. Written by triggers, emptied by the capture loop."""

    thread_id = models.TextField()
    attempts = models.PositiveSmallIntegerField(db_default=0)
    not_before = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.thread_id


class Draft(models.Model):
    """What a person has written in a review's form and not sent. Outlives tab, session and claim.

    `version` counts its saves: a tab that saves over a version it has not seen is told, and what it
    sent is kept as a revision.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="drafts")
    fields = models.JSONField(default=dict)  # the form's names and texts, where they differ
    digest = models.CharField(max_length=64)  # of the review as it was shown
    tab = models.UUIDField()  # the browser tab that wrote this version
    version = models.PositiveIntegerField(default=1)
    saved_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "review"], name="draft_once")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.review_id}, version {self.version}"


class DraftRevision(models.Model):
    """An earlier state of a draft, to go back to."""

    draft = models.ForeignKey(Draft, on_delete=models.CASCADE, related_name="revisions")
    fields = models.JSONField(default=dict)
    version = models.PositiveIntegerField()
    tab = models.UUIDField()
    saved_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"version {self.version} of {self.draft_id}"


class SavedReply(models.Model):
    """A text that people put into replies; `{{customer.name}}` stands for a field of the state."""

    title = models.TextField()
    text = models.TextField()
    graph = models.TextField(blank=True)  # "" serves every queue
    # None: everybody's in the queue; else this person's own.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", null=True
    )
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["title", "id"]
        verbose_name_plural = "saved replies"

    def __str__(self) -> str:
        return self.title


class SavedView(models.Model):
    """A way to look at the queue, under a name: what is filtered, and how it is sorted."""

    name = models.TextField()
    query = models.TextField()  # as in the queue's address
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    shared = models.BooleanField(default=False)  # with everybody

    class Meta:
        ordering: ClassVar = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    """A word among colleagues about a review. The customer and the agent never see it."""

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    at = models.DateTimeField(db_default=Now())
    mentioned = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="+", through="Mention"
    )

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.text[:60]


class Mention(models.Model):
    """Somebody was named in a note; `seen_at` is when they looked at that review."""

    note = models.ForeignKey(Note, on_delete=models.CASCADE, related_name="mentions")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    seen_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["note", "user"], name="mention_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["user"], name="mention_unseen", condition=Q(seen_at=None))
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.note_id}"


class Presence(models.Model):
    """A browser tab that has a review open, as it last said. Forgotten when it falls silent."""

    class Doing(models.TextChoices):
        READING = "reading"
        EDITING = "editing"

    tab = models.UUIDField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="presences")
    doing = models.TextField(choices=Doing, default=Doing.READING)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.user_id} {self.doing} {self.review_id}"


class Profile(models.Model):
    """How a person wants the console to be."""

    class Theme(models.TextChoices):
        SYSTEM = ""
        LIGHT = "light"
        DARK = "dark"

    class Density(models.TextChoices):
        EXCERPT = ""  # three lines a row
        TWO = "two"

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile", primary_key=True
    )
    theme = models.TextField(choices=Theme, default=Theme.SYSTEM, blank=True)
    density = models.TextField(choices=Density, default=Density.EXCERPT, blank=True)
    language = models.TextField(blank=True)  # "" follows the browser
    keys_on = models.BooleanField(default=True)  # WCAG 2.1.4
    keys = models.JSONField(default=dict)  # action: key, where it is not the usual one
    notify = models.BooleanField(default=False)  # desktop notifications of new cases
    sound = models.BooleanField(default=False)
    stays = models.BooleanField(default=False)  # on a case that was decided, to see its run

    def __str__(self) -> str:
        return str(self.user_id)
