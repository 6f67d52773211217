"""The keys of the drivers that ask a directory."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.accounts.base import AccountSource
from tpops.config.section import PathText, key


def _url(value: str) -> str:
    if not value.startswith(("ldap://", "ldaps://", "ldapi://")):
        raise ValueError('must begin with "ldap://", "ldaps://" or "ldapi://"')
    return value


def _needed(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


URL = Annotated[str, AfterValidator(_url)]
Needed = Annotated[str, AfterValidator(_needed)]
Location = Annotated[str, AfterValidator(lambda value, info: checks.mail_location(value, info) if value else value)]


class LDAP(AccountSource):
    """Accounts in a directory, such as OpenLDAP or Active Directory: search, then bind; see docs/accounts/ldap.md."""

    driver: Annotated[Literal["ldap"], key("A directory.")]
    urls: Annotated[
        tuple[URL, ...],
        Field(strict=False, min_length=1),
        key(
            "The servers of the directory, of which the first that answers is asked: `ldap://host`, `ldaps://host` "
            "(TLS from the first octet), both with `:port` where it is not 389 or 636, or `ldapi://%2Fpath` for a "
            "socket.",
            example='["ldap://ldap1.example.org", "ldap://ldap2.example.org"]',
        ),
    ]
    tls: Annotated[
        Literal["starttls", "off"],
        key('What `ldap://` does: "starttls" turns TLS on first, "off" sends passwords as they are.'),
    ] = "starttls"
    tls_ca: Annotated[
        PathText,
        key(
            'PEM file with the certificates that the servers\' are verified with; "" takes those of the machine.',
            example='"/etc/ssl/certs/example-ca.pem"',
        ),
    ] = ""
    tls_verify: Annotated[
        bool, key("Verify the servers' certificates and names; without, anybody in between can read the passwords.")
    ] = True
    bind_dn: Annotated[
        str, key('Whom searches are made as; "" for nobody.', example='"cn=tpops,ou=services,dc=example,dc=org"')
    ] = ""
    bind_password: Annotated[str, key("His password.", secret=True)] = ""
    bind_password_file: Annotated[
        PathText,
        key("File that has the password in its first line; read at the start.", example='"/etc/tpops/ldap-password"'),
    ] = ""
    base_dn: Annotated[Needed, key("Where searches begin.", example='"ou=people,dc=example,dc=org"')]
    filter: Annotated[
        Needed,
        key(
            "What fits the entry of a login name, RFC 4515: `$(user)` or `%s` is the whole name, `$(local_part)` or "
            "`%u` what stands before the domain, `$(domain)` or `%d` the domain, `%%` a percent sign.",
            example='"(&(objectClass=inetOrgPerson)(mail=$(user)))"',
        ),
    ]
    scope: Annotated[
        Literal["subtree", "one", "base"], key("How deep below `base_dn` to search: all of it, one level, only itself.")
    ] = "subtree"
    enabled_filter: Annotated[
        str,
        key(
            'What an entry must fit to log in, looked at once the password was right; "" is everything.',
            example='"(!(loginShell=/bin/false))"',
        ),
    ] = ""
    mailbox: Annotated[
        Location,
        key(
            'Where the mail of an entry is that does not say it, written as `mail.location`; "" is `mail.location`.',
            example='"maildir:/var/mail/$(domain)/$(local_part)"',
        ),
    ] = ""
    mailbox_attribute: Annotated[
        str,
        key(
            'Attribute with the path of the maildrop; a path that ends in "/" is a Maildir, any other an mbox.',
            example='"mailbox"',
        ),
    ] = ""
    mailbox_type_attribute: Annotated[
        str,
        key(
            'Attribute with the type of what `mailbox_attribute` names: "maildir", "mbox" or "bsd".',
            example='"mailboxType"',
        ),
    ] = ""
    home_attribute: Annotated[str, key("Attribute with the home directory.", example='"homeDirectory"')] = ""
    mail_user: Annotated[str, key("User, by name or number, that owns the mail of an entry that names none.")] = ""
    mail_user_attribute: Annotated[
        str, key("Attribute with the user that owns the mail, by name or number.", example='"uidNumber"')
    ] = ""
    mail_group: Annotated[str, key("Group, by name or number, of the mail of an entry that names none.")] = ""
    mail_group_attribute: Annotated[
        str, key("Attribute with the group of the mail, by name or number.", example='"gidNumber"')
    ] = ""
    timeout_seconds: Annotated[
        float, key("How long a login waits for the directory, all servers together.", ge=0.1, le=120)
    ] = 10.0
    connections: Annotated[
        int, key("Connections to each server for the passwords of users, beside the one for searches.", ge=1, le=1000)
    ] = 10

    @model_validator(mode="after")
    def _fits_together(self) -> LDAP:
        schemes = {url.partition(":")[0] for url in self.urls}
        given = self.model_fields_set
        if "tls" in given and "ldap" not in schemes:
            raise ValueError("tls is for ldap:// only: ldaps:// always has TLS, ldapi:// never")
        if not self.tls_verify and self.tls_ca:
            raise ValueError("tls_ca does not go with tls_verify = false")
        has_tls = "ldaps" in schemes or ("ldap" in schemes and self.tls == "starttls")
        if not has_tls and not given.isdisjoint(("tls_ca", "tls_verify")):
            raise ValueError('tls_ca and tls_verify need TLS: ldaps://, or ldap:// without tls = "off"')
        if self.bind_password and self.bind_password_file:
            raise ValueError("bind_password and bind_password_file do not go together")
        if bool(self.bind_dn) != bool(self.bind_password or self.bind_password_file):
            raise ValueError("bind_dn and a password (bind_password or bind_password_file) need each other")
        if self.mailbox_type_attribute and not self.mailbox_attribute:
            raise ValueError("mailbox_type_attribute needs mailbox_attribute")
        return self

    def warnings(self) -> Iterable[str]:
        """See L{AccountSource.warnings}."""
        for url in self.urls:
            if url.startswith("ldap:") and self.tls == "off" and not _is_local(url):
                yield f'accounts source {self.name}: {url} gets all passwords without TLS (tls = "off")'
        if not self.tls_verify:
            yield f"accounts source {self.name}: without tls_verify, whoever is in between can read all passwords"


def _is_local(url: str) -> bool:
    """Whether the server is on this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
