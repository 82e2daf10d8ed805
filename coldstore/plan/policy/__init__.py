"""
Who may do what: policies as Amazon documents them, of buckets and of users, read and evaluated. Pure.

A policy is a list of statements; a statement that applies to a question denies or allows what is asked. ``document`` reads a policy and refuses
one that would not do what its writer thinks; ``patterns``, ``principals``, ``conditions`` and ``actions`` read the elements of a statement and
answer whether they apply. ``decision`` brings together all policies that there are and who owns the bucket, and says which statement decided.
``publicity`` tells what is public, ``access_block`` what a bucket does about that. ``canned`` writes the usual policies of users.

Sources: IAM User Guide, "IAM JSON policy element reference" and "Policy evaluation logic"; Amazon S3 User Guide, "Bucket policies for Amazon S3" and
"Blocking public access to your Amazon S3 storage"; Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3".
"""
