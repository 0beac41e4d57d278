from tests.support.airflow_home import set_up

set_up()
