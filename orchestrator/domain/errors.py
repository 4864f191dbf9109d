"""Every error Tendon raises on purpose, classed by what happens next.

    TendonError
    ├── Refused    the peer or caller gets a status and may correct itself
    ├── Unfit      the study does not suit the pipeline: shown, not retried
    ├── Transient  tried again with back-off
    └── Broken     an operator must act

Each error carries a `Fault`: a stable code, used in the API, the log and the manual.
"""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code means and what the person who sees it can do."""

    code: str
    meaning: str
    remedy: str


class Fault(Enum):
    """All stable codes.

    1xxx receiving, 2xxx routing, 3xxx fitness, 4xxx work, 5xxx delivery, 6xxx access and requests, 9xxx site.
    """

    NOT_DICOM = Meaning("TND-1001", "the file or data set is not DICOM", "send DICOM Part 10 files only")
    TRUNCATED = Meaning("TND-1002", "the data set ends too early", "export the object again and send it once more")
    NO_IDENTITY = Meaning(
        "TND-1003", "the data set names no Study or Series Instance UID", "give the object its UIDs and send it again"
    )
    STORAGE_LOW = Meaning("TND-1004", "too little free space to accept more", "free space in the data folder")
    STORE_FAILED = Meaning("TND-1005", "the object could not be stored", "see the service's log; then send again")
    UNKNOWN_PEER = Meaning("TND-1007", "this sender is not on the list", "add the node with may_send: true")
    UNKNOWN_CALLED_AE = Meaning(
        "TND-1008", "the called AE title is none of ours", "correct the sender, or add it to TENDON_CALLED_AE_TITLES"
    )
    TOO_MANY_ASSOCIATIONS = Meaning(
        "TND-1009", "too many associations are open", "nothing: the sender tries again; if it lasts, see who holds them"
    )

    JOURNAL_FULL = Meaning(
        "TND-1010",
        "records cannot be kept as fast as objects come",
        "see the log of the recorder and the database; the sender tries again",
    )
    JOURNAL_IN_USE = Meaning(
        "TND-1011", "another process receives into the same data folder", "run one SCP for each data folder"
    )
    JOURNAL_UNREADABLE = Meaning(
        "TND-1012",
        "what was received before the restart cannot be read",
        "start the version of Tendon that wrote it, let it finish, then start this one",
    )
    OTHER_CLASS = Meaning("TND-1013", "the data set is of another SOP class than announced", "correct the sender")
    NOT_RECORDED = Meaning(
        "TND-1014", "an object that was accepted cannot be recorded", "see the recorder's log; it tries again"
    )
    OVER_QUOTA = Meaning(
        "TND-1015",
        "the node has sent as much within 24 hours as it may",
        "see what it sends; it may send again by and by, or raise its quota_gb_per_day",
    )
    RECORDS_LATE = Meaning(
        "TND-1016", "what was received is recorded late", "see the recorder's log and the database; nothing is lost"
    )

    RULE_INVALID = Meaning("TND-2001", "the rule text is not valid", "correct the rule at the path named")
    UNKNOWN_PIPELINE = Meaning("TND-2002", "no such pipeline is installed", "install it or correct the name")
    UNKNOWN_DESTINATION = Meaning("TND-2003", "no such destination is configured", "add it or correct the name")
    MANIFEST_INVALID = Meaning("TND-2004", "the pipeline's manifest is not valid", "correct the manifest")
    EXAMPLE_FAILED = Meaning("TND-2005", "an example inside the rule does not hold", "correct the rule or the example")
    IDENTITY_CONFLICT = Meaning(
        "TND-2006", "the objects of this study name different patients", "correct the identity at the source"
    )
    PATIENT_UNKNOWN = Meaning(
        "TND-2007", "the images name no patient id", "the result stays out of the EHR until a person decides"
    )
    ROUTING_FAILED = Meaning(
        "TND-2008", "the study could not be routed because of a fault of Tendon or its rules", "see the service's log"
    )
    IDENTITY_CHANGED = Meaning(
        "TND-2009",
        "an object of this study came again under its UID with another identity",
        "decide with `tendon identity`",
    )
    CONTENT_CHANGED = Meaning(
        "TND-2010",
        "an object of this study came again under its UID with other content",
        "decide with `tendon identity`",
    )
    RULE_ODD = Meaning(
        "TND-2011", "a rule is right but may not do what is meant", "read the hint; change the rule if it is not meant"
    )
    RULES_ACTIVE = Meaning(
        "TND-2012", "these rules were in force before", "go back to them instead of switching them on"
    )
    APPROVAL_NEEDED = Meaning("TND-2013", "rules need the approval of a second person", "ask one to switch them on")

    REPLAY_BUSY = Meaning("TND-2014", "rules are being tried already", "try again in a minute")

    NO_INPUT = Meaning("TND-3001", "no series suits the pipeline's input", "nothing: the pipeline does not apply")
    GANTRY_TILT = Meaning("TND-3002", "the gantry was tilted", "reconstruct the series without tilt")
    UNEVEN_SLICES = Meaning("TND-3003", "the slices are not evenly spaced", "reconstruct the series evenly")
    MISSING_SLICES = Meaning("TND-3004", "slices are missing", "send the missing images")
    DUPLICATE_SLICES = Meaning("TND-3005", "several images lie at the same place", "send one reconstruction a series")
    NOT_A_VOLUME = Meaning("TND-3006", "the images do not form a volume", "nothing: the series is not a stack")
    PIXELS_UNREADABLE = Meaning("TND-3007", "the pixels cannot be decoded", "export the images again")
    OUT_OF_RANGE = Meaning("TND-3008", "outside what the pipeline was made for", "nothing: the study does not suit")
    REGION_UNUSABLE = Meaning("TND-3009", "the drawn region cannot be used", "draw it on images of this study")
    NOTHING_FOUND = Meaning("TND-3010", "the pipeline found nothing to show", "nothing: this is a result")
    LOSSY_PIXELS = Meaning("TND-3011", "the images are lossily compressed", "send the original images")
    UPSTREAM_MISSING = Meaning(
        "TND-3012",
        "a result this pipeline builds on is not there",
        "see the job it waits for; repair or retry that one",
    )
    REVIEW_AWAITED = Meaning(
        "TND-3013", "a result this pipeline builds on waits for a person's review", "review that result"
    )

    STAGE_TIMEOUT = Meaning("TND-4001", "the stage ran longer than its limit", "look at the stage's log, then retry")
    STAGE_DIED = Meaning("TND-4002", "the stage's process ended without a result", "retry; if it repeats, report it")
    PIPELINE_FAULT = Meaning("TND-4003", "the pipeline failed by a programming fault", "report it to its author")
    RESULT_INVALID = Meaning("TND-4004", "the pipeline handed back what it did not declare", "report it to its author")
    MEMORY_LIMIT = Meaning("TND-4006", "the stage needed more memory than it may use", "raise memory_mb, then retry")
    UNKNOWN_QUEUE = Meaning(
        "TND-4007", "there is no such queue", "name a lane cpu or gpu, priority stat, routine or batch"
    )
    OTHER_BUILD = Meaning(
        "TND-4008",
        "no worker has the build of the pipeline that the job was planned with",
        "install that build on a worker, or have the study routed again",
    )
    DEVICE_MEMORY = Meaning("TND-4009", "the GPU's memory was not enough", "it is tried again; use a larger GPU")
    DEVICE_LOST = Meaning(
        "TND-4010", "the GPU or its driver failed", "restart the worker; check the GPU and its driver"
    )
    NO_DEVICE = Meaning(
        "TND-4011", "the stage needs a GPU and no worker has one", "start a worker of lane gpu on a GPU machine"
    )
    NO_WORKER = Meaning("TND-4012", "no worker serves the queue", "start a worker of that lane")

    PEER_UNREACHABLE = Meaning("TND-5001", "the destination does not answer", "it is tried again for 72 hours")
    PEER_REFUSED = Meaning("TND-5002", "the destination refused the object", "see the status, correct, then retry")
    NOT_PROVEN = Meaning("TND-5003", "the destination does not show the object", "it is asked and sent again")
    DESTINATION_INVALID = Meaning("TND-5004", "the destination's settings are not valid", "correct them")
    QUERY_UNANSWERED = Meaning(
        "TND-5005", "the node does not answer queries", "see to it; series are ready by quiet time meanwhile"
    )
    QUERY_REFUSED = Meaning(
        "TND-5006", "the node refuses queries", "let Tendon's AE title query it, or take query: true from the node"
    )

    NOTICE_UNSENT = Meaning(
        "TND-5007", "a notice could not be sent", "see its receiver and the reason; it is tried again for 72 hours"
    )
    ADDRESS_FORBIDDEN = Meaning(
        "TND-5008", "the address is one that Tendon does not connect to", "name another host, or correct its DNS entry"
    )

    NOT_SIGNED_IN = Meaning("TND-6001", "nobody is signed in", "sign in, or send a token that is valid")
    NOT_ALLOWED = Meaning("TND-6002", "this role may not do that", "ask somebody whose role may, or an admin")
    SIGN_IN_FAILED = Meaning("TND-6003", "name or password is wrong", "try again, or ask an admin for a new password")
    SIGN_IN_THROTTLED = Meaning(
        "TND-6004", "there were too many attempts to sign in under this name", "wait 15 minutes, then try again"
    )
    REQUEST_FORGED = Meaning(
        "TND-6005", "the request does not come from a page of this session", "load the page again and repeat it"
    )
    CONFIRMATION_NEEDED = Meaning(
        "TND-6006", "the password was given too long ago for this", "give your password again, then repeat it"
    )
    PASSWORD_PROVISIONAL = Meaning(
        "TND-6007", "the first password must be replaced before anything else", "choose a password of your own"
    )
    PASSWORD_WEAK = Meaning("TND-6008", "the password would be guessed", "choose a longer one, such as four words")
    ACCOUNT_INVALID = Meaning("TND-6009", "the account cannot be like that", "correct what is named")
    EMERGENCY_ACCESS = Meaning(
        "TND-6010", "somebody opened the studies of all sites in an emergency", "see the reason, then clear the alarm"
    )
    REQUEST_INVALID = Meaning("TND-6011", "the request is not as it must be", "correct what is named")
    TOO_LARGE = Meaning("TND-6012", "the request is larger than is taken here", "send less at once")
    KEY_REUSED = Meaning(
        "TND-6013", "this idempotency key belongs to another request", "take a new key for each request"
    )
    KEY_IN_USE = Meaning("TND-6014", "the request with this idempotency key is still at work", "wait, then repeat it")
    CHANGED_MEANWHILE = Meaning(
        "TND-6015", "somebody has changed this meanwhile", "look at what is there now, then repeat it"
    )
    PROVIDER_FAILED = Meaning(
        "TND-6016", "the identity provider did not sign anybody in", "try again; if it repeats, see the service's log"
    )
    REQUEST_FAILED = Meaning("TND-6017", "the request failed by a fault of Tendon", "see the service's log")

    SETTING_INVALID = Meaning("TND-9001", "a setting is not valid", "correct the setting named")
    SCHEMA_OLD = Meaning("TND-9002", "the database schema is not this version's", "run `tendon migrate`")
    OBJECT_DAMAGED = Meaning("TND-9003", "a stored object's bytes have changed", "restore it from a backup")
    NOT_FOUND = Meaning("TND-9004", "there is no such thing", "check the name or id")
    WRONG_STATE = Meaning("TND-9005", "not possible in its present state", "see its state and reason")
    MESSAGE_UNUSABLE = Meaning(
        "TND-9006", "a message to the workers could not be used", "see who else may write to the broker"
    )
    BROKER_UNREACHABLE = Meaning("TND-9007", "the message broker does not answer", "start it; workers poll until then")
    DATABASE_UNREACHABLE = Meaning("TND-9008", "the database does not answer", "start it; nothing accepted is lost")
    OBJECTS_UNREACHABLE = Meaning(
        "TND-9009", "the object store does not answer", "see its address, bucket and keys; nothing accepted is lost"
    )

    @property
    def code(self) -> str:
        """The stable code, for instance TND-1001."""
        return self.value.code


OF_THE_SURROUNDINGS = frozenset({Fault.OTHER_BUILD, Fault.STORAGE_LOW, Fault.OBJECTS_UNREACHABLE})
"""Faults of the place where a stage was to run: no attempt of the stage."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether a file could not be written because there is no room: the disk, the quota or a limit is used up."""
    return error.errno in _FULL


class TendonError(Exception):
    """A fault with one sentence of detail that holds no patient data."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        self.fault = fault
        self.detail = detail or fault.value.meaning
        super().__init__(f"{self.detail} [{fault.code}]")

    @property
    def code(self) -> str:
        """The stable code of the fault."""
        return self.fault.code


class Refused(TendonError):
    """The peer or caller gets a status."""


class Unfit(TendonError):
    """The study does not suit the pipeline; shown, not retried."""


class Transient(TendonError):
    """Worth trying again."""


class Broken(TendonError):
    """An operator must act."""


def where(error: Exception) -> str:
    """Kind and place of an error for the log; its text may quote records or what a peer sent, so it stays out."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}"
