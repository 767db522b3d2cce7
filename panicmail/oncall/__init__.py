"""Who is on call in a role at an instant, and who will be.

spans       the one answer: who, from when until when, because of what
rosters     roles: fixed people, shifts or a calendar, with overrides above and a fallback below
shifts      what recurs every week or season, and whose turn it is
wall        a wall clock's times as instants, on the nights it is put forward or back too
overrides   somebody else for a while
calendars   the events of an iCalendar as spans, and the people they name
names       whom a text names
feeds       where a calendar comes from, and what is kept when it does not come
copies      the last good copy of a calendar on disk
reading     iCalendar text -> occurrences; the only file that knows the libraries
child       the process in which that happens
configured  the rosters and feeds a configuration gives
"""
