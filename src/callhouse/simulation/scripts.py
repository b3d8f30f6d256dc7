"""The applications that simulated people call: each is data, a list of steps, that callhouse.simulation.walk walks."""

from typing import Any, NamedTuple

from callhouse.model.instant import MINUTE, SECOND


class Step(NamedTuple):
    """One module of a script; its *name* is the result variable.

    In texts, ``{order}`` stands for what was keyed in at the step *order*, ``{4#}`` for a 4 and any digit, and
    ``{red|blue}`` for either word. *answers* are what may be keyed in, how often, and the step it leads to. A module
    that works logs *does*, and when that *takes* its milliseconds, *done* with more data or, now and then, *fails*.
    The empty name of a step means the following one.
    """

    name: str
    module: str
    says: str = ""
    answers: tuple[tuple[str, int, str], ...] = ()
    does: str = ""
    done: tuple[str, dict[str, Any]] = ("", {})
    fails: str = ""
    takes: tuple[int, int] = (20, 900)
    then: str = ""


class Script(NamedTuple):
    """An application: the numbers it is reached at, and its steps, the last of which is the exit."""

    name: str
    version: str
    revision: int
    numbers: tuple[str, ...]
    steps: tuple[Step, ...]


HANG_UP = "(hang up)"
LEAVE = Step("leave", "exit", does="Exiting application", takes=(100, 900), then=HANG_UP)
JAVASCRIPT = "Executing JavaScript"

# fmt: off
ORDER_STATUS = Script("Order Status", "2.3", 61840, ("8005550100", "8005550101", "8885550117"), (
    Step("choice", "menu", "Harbor Lane Supply.  To trace an order, press 1.  For opening hours, 2.  For a person, 0.",
         (("1", 70, ""), ("2", 12, "hours"), ("0", 15, "desk"))),
    Step("order", "number", "Key in the seven digits of your order number.", (("4######", 1, ""),)),
    Step("lookup", "rest", does="Sending", takes=(90, 2600), fails="HTTP 503 from https://orders.example.com/v2",
         done=("Received", {"url": "https://orders.example.com/v2/{order}", "status": 200})),
    Step("arrival", "eval_js", does=JAVASCRIPT, fails="ReferenceError: shipped is not defined line 3"),
    Step("status", "prompt", "Your order {is being packed|left our warehouse|is out for delivery|waits for you}."),
    Step("copy", "yes_no", "Would you like this by e-mail?  Press 1 for yes or 2 for no.",
         (("true", 35, ""), ("false", 65, "thanks"))),
    Step("mail", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "buyer{####}@example.com", "subject": "Your order {order}", "body": "Order {order} is on its way."})),
    Step("thanks", "prompt", "That is all for this order.  Good-bye.", then="leave"),
    Step("hours", "prompt", "The counter is open from eight to six, Monday to Saturday.", then="leave"),
    Step("desk", "transfer", "One moment, a colleague will pick up.", does="Transferring call"),
    Step("nobody", "prompt", "Every line is taken just now.  Please try again in a while."),
    LEAVE,
))
CLINIC = Script("Clinic Appointments", "1.7", 62015, ("6175550110", "6175550111", "8885550142"), (
    Step("patient", "digits", "Maple Street Clinic.  Type the eight digits of your card.", (("20######", 1, ""),)),
    Step("record", "rest", does="Sending", takes=(120, 3100), fails="Timeout at https://booking.example.org/patients",
         done=("Received", {"url": "https://booking.example.org/patients/{patient}", "status": 200})),
    Step("wish", "menu", "To book a visit, press 1.  To call one off, press 2.  For the front desk, press 3.",
         (("1", 60, ""), ("2", 25, "cancelled"), ("3", 12, "desk"))),
    Step("day", "date", "On which day?  Two digits for the month, then two for the day.",
         (("031#", 1, ""), ("052#", 1, ""), ("091#", 1, ""), ("112#", 1, ""))),
    Step("offer", "yes_no", "We are free at {8:15|9:40|11:30|2:05|3:50}.  Press 1 to take it, or 2 for another day.",
         (("true", 80, ""), ("false", 20, "day"))),
    Step("notice", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "frontdesk@example.org", "subject": "Visit on {day}", "body": "Patient {patient} comes on {day}."})),
    Step("booked", "prompt", "You are in the book.  See you then.", then="leave"),
    Step("cancelled", "prompt", "Your visit is off the book.  Call again whenever you like.", then="leave"),
    Step("desk", "transfer", "Ringing the front desk for you.", does="Transferring call"),
    Step("nobody", "prompt", "The front desk is with a patient.  We shall ring you back."),
    LEAVE,
))
BALANCE = Script("Account Balance", "4.0", 61377, ("8775550123", "8775550124"), (
    Step("hello", "prompt", "Welcome to Quarry Savings."),
    Step("customer", "number", "Enter your six digit customer number.", (("######", 1, ""),)),
    Step("ledger", "rest", does="Sending", takes=(70, 1400), fails="HTTP 500 from https://core.example.net/ledger",
         done=("Received", {"url": "https://core.example.net/ledger/{customer}", "status": 200})),
    Step("total", "eval_js", does=JAVASCRIPT, fails="ReferenceError: pending is not defined line 8"),
    Step("balance", "prompt", "Your balance is {$1,4##.##|$8##.##|$6#.##}."),
    Step("more", "menu", "To hear it again, press 1.  For a banker, press 2.  To finish, press 3.",
         (("1", 20, "balance"), ("2", 11, "banker"), ("3", 67, "bye"))),
    Step("banker", "transfer", "Please stay on the line for a banker.", does="Transferring call"),
    Step("bye", "prompt", "Quarry Savings wishes you a pleasant day."),
    LEAVE,
))
AFTER_HOURS = Script("After Hours", "1.2", 60902, ("8005550130", "6175550131"), (
    Step("closed", "prompt", "You have reached Pell and Daughters.  The office is dark at this hour."),
    Step("urgent", "yes_no", "Is it urgent?  Press 1 if so, otherwise 2.", (("true", 30, ""), ("false", 70, "later"))),
    Step("callback", "digits", "At which number can we reach you?", (("617555####", 3, ""), ("508555####", 2, ""))),
    Step("page", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "oncall@example.com", "subject": "Urgent call", "body": "Please ring {callback}."})),
    Step("soon", "prompt", "Somebody will ring {callback} within the hour.", then="leave"),
    Step("later", "prompt", "We are back at nine in the morning.  Good night."),
    LEAVE,
))
REMINDER = Script("Visit Reminder", "1.1", 62044, ("6175550110",), (
    Step("coming", "yes_no", "Maple Street Clinic expects you at {8:15|9:40|2:05}.  Press 1 if you come, 2 if not.",
         (("true", 82, ""), ("false", 18, ""))),
    Step("update", "rest", does="Sending", takes=(80, 1500), fails="HTTP 502 from https://booking.example.org/visits",
         done=("Received", {"url": "https://booking.example.org/visits", "status": 204})),
    Step("noted", "prompt", "Thank you, we made a note of it."),
    LEAVE,
))
AGENT = Script("Agent Desk", "3.4", 61502, ("6175550180", "6175550181", "6175550182", "6175550183"), (
    Step("accept", "menu", "A caller is waiting.  Press 1 to be put through.", (("1", 1, ""),)),
    Step("talk", "transfer", does="Connecting parties", takes=(15 * SECOND, 9 * MINUTE), then=HANG_UP),
    LEAVE,
))
# fmt: on
