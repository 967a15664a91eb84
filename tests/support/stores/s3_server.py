"""An object store: moto's S3 server, with its checks of credentials turned on."""

import json
import logging
from types import TracebackType
from typing import Any, Self

import boto3
import httpx2
from moto.server import ThreadedMotoServer

from support.stores.web_server import damaged

BUCKET = "models"
REGION = "eu-central-1"


class S3Server:
    """A server with one bucket, which may be read with ``secret``."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port: int = self._server.get_host_and_port()[1]
        self._originals: dict[str, bytes] = {}
        self.client = self._boto("s3")
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        iam = self._boto("iam")
        iam.create_user(UserName="reader")
        allow = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        self.secret = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_REGION": REGION,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.check_credentials(False)
        self._server.stop()

    def check_credentials(self, check: bool) -> None:
        """Turn the check of credentials on or off. A test turns it off to write to the bucket."""
        count = "0" if check else "inf"
        httpx2.post(f"http://127.0.0.1:{self.port}/moto-api/reset-auth", content=count).raise_for_status()

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def put_in_parts(self, key: str, parts: list[bytes]) -> None:
        """Upload an object in parts, as clients do with large objects."""
        upload = {"Bucket": BUCKET, "Key": key}
        upload["UploadId"] = self.client.create_multipart_upload(**upload)["UploadId"]
        sent = [
            {"PartNumber": n, "ETag": self.client.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
            for n, part in enumerate(parts, start=1)
        ]
        self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})

    def _boto(self, service: str) -> Any:
        session = boto3.Session("admin", "admin", region_name=REGION)
        return session.client(service, endpoint_url=f"http://127.0.0.1:{self.port}")

    def damage(self, name: str) -> None:
        self._change(name, damaged)

    def mend(self, name: str) -> None:
        self._change(name, lambda _: self._originals[name])

    def _change(self, name: str, change: Any) -> None:
        """Change the bytes of an object, but not its ETag."""
        from moto.s3.models import s3_backends

        for backend in s3_backends["123456789012"].values():
            for bucket in backend.buckets.values():
                for key, stored in bucket.keys.items():
                    if key.endswith(f"/{name}"):
                        self._originals.setdefault(name, stored.value)
                        etag = stored.etag.strip('"')
                        stored.value = change(stored.value)
                        stored._etag = etag
