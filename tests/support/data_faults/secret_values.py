"""Generated secrets and personal data. None of them is valid anywhere.

Numbers and addresses are of ranges that are reserved for documentation and tests. Values are put together at
run time, so that no scanner of this repository takes a source file for a leak."""

import random
import string

HEX = "0123456789abcdef"
BASE62 = string.ascii_letters + string.digits


def aws_access_key(order: random.Random) -> str:
    """Return an access key ID of AWS's format."""
    return "AKIA" + _of(string.ascii_uppercase + "234567", 16, order)


def aws_secret_key(order: random.Random) -> str:
    """Return an assignment of an AWS secret access key."""
    return f'aws_secret_access_key = "{_of(BASE62 + "/+", 40, order)}"'


def github_token(order: random.Random) -> str:
    """Return a personal access token of GitHub's classic format."""
    return "ghp_" + _of(BASE62, 36, order)


def slack_token(order: random.Random) -> str:
    """Return a bot token of Slack's format."""
    return "-".join(
        ["xoxb", _of(string.digits, 12, order), _of(string.digits, 12, order), _of(BASE62, 24, order)]
    )


def hugging_face_token(order: random.Random) -> str:
    """Return an access token of Hugging Face's format."""
    return "hf_" + _of(string.ascii_letters, 34, order)


def api_key(order: random.Random) -> str:
    """Return an assignment of a random hexadecimal key."""
    return f'api_key = "{_of(HEX, 40, order)}"'


def password(order: random.Random) -> str:
    """Return an assignment of a password."""
    return f'password = "{_of(BASE62, 12, order)}!{_of(string.digits, 3, order)}"'


def private_key(order: random.Random) -> str:
    """Return the first lines of a private key in PEM format."""
    return f"-----BEGIN RSA PRIVATE{' '}KEY-----\n{_of(BASE62 + '+/', 64, order)}\n"


def url_with_password(order: random.Random) -> str:
    """Return a URL of a database, with the password in it."""
    return f"postgresql://reader:{_of(BASE62, 16, order)}@db.example.com/orders"


SECRETS = {
    made.__name__: made
    for made in (
        aws_access_key,
        aws_secret_key,
        github_token,
        slack_token,
        hugging_face_token,
        api_key,
        password,
        private_key,
        url_with_password,
    )
}
"""A generator for each format of secret."""


def email(order: random.Random) -> str:
    """Return an e-mail address in a domain that is reserved for examples."""
    name, surname = order.choice(NAMES).lower(), order.choice(SURNAMES).lower()
    return f"{name}.{surname}@example.{order.choice(['com', 'org'])}"


def telephone(order: random.Random) -> str:
    """Return a telephone number of a range that is reserved for fiction."""
    number = order.randint(100, 199)
    return order.choice([f"+1 202-555-0{number}", f"(202) 555-0{number}", f"+44 20 7946 0{number}"])


def bank_card(order: random.Random) -> str:
    """Return a test card number, which passes the Luhn check."""
    return order.choice(["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011111111111117"])


def iban(order: random.Random) -> str:
    """Return an IBAN that a registry gives as an example, with valid check digits."""
    return order.choice(
        ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR14 2004 1010 0505 0001 3M02 606"]
    )


PERSONAL_DATA = {made.__name__: made for made in (email, telephone, bank_card, iban)}
"""A generator for each type of personal data."""
PERSONAL_SENTENCES = {
    "email": "Please write to {}.",
    "telephone": "Call me at {} after lunch.",
    "bank_card": "The order was paid with card {}.",
    "iban": "Transfer the amount to {}.",
}
NAMES = ("Anna", "Luis", "Mei", "Omar", "Petra", "Sam")
SURNAMES = ("Adams", "Brandt", "Chen", "Diaz", "Evans", "Fischer")


def no_secret(order: random.Random) -> str:
    """Return a sentence with a value that is no secret: a commit, a UUID, a checksum, or a placeholder."""
    uuid = "-".join(_of(HEX, length, order) for length in (8, 4, 4, 4, 12))
    return order.choice(
        [
            f"The fault was fixed in commit {_of(HEX, 40, order)}.",
            f"The request has the ID {uuid}.",
            f"The file's sha256 is {_of(HEX, 64, order)}.",
            'Set api_key="<your key>" before the first call.',
            "The key is read from the variable API_TOKEN.",
        ]
    )


def no_personal_data(order: random.Random) -> str:
    """Return a sentence with numbers or an address that belong to nobody."""
    return order.choice(
        [
            f"The server listens at 192.0.2.{order.randint(1, 254)}:8080.",
            f"Version 2024.{order.randint(1, 12)}.{order.randint(1, 28)} removes the option.",
            f"The table has {order.randint(10_000_000, 99_999_999):,} rows.",
            "Decorate the method with @property and @functools.cache.",
            f"The constant is 3.14159265{order.randint(1000, 9999)}.",
        ]
    )


def _of(alphabet: str, length: int, order: random.Random) -> str:
    return "".join(order.choices(alphabet, k=length))
