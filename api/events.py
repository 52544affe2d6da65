"""What happens to a job, as server-sent events."""

from fastapi import APIRouter

router = APIRouter()
