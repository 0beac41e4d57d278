"""Create a versioned bucket, unless it is there: ``make_bucket.py NAME``.

Endpoint, region and credentials come from the usual AWS environment.
"""

import sys

import boto3
from botocore.exceptions import ClientError


def main(bucket: str) -> None:
    """Create ``bucket`` and turn its versioning on."""
    client = boto3.client("s3")
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


if __name__ == "__main__":
    main(sys.argv[1])
