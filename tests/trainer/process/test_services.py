"""Objects that a process makes once."""

from dataclasses import dataclass

from tunegate_trainer.process.services import Services


@dataclass
class Guard:
    model: str


@dataclass
class Judge:
    model: str


def test_object_of_a_class_and_a_name_is_made_once():
    services = Services()
    first = services.once(Guard, "orders", lambda: Guard("a"))
    assert services.once(Guard, "orders", lambda: Guard("b")) is first
    assert services.once(Guard, "refunds", lambda: Guard("b")) == Guard("b")


def test_objects_of_two_classes_have_the_same_name():
    services = Services()
    services.once(Guard, "orders", lambda: Guard("a"))
    assert services.once(Judge, "orders", lambda: Judge("b")) == Judge("b")
